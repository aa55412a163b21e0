//! Requests to the admin listener.

use super::entry::problems;

problems! {
    area Request;

    address_refused(address) "admin-address-refused" Error
        cause "{address} is in none of the networks that [admin] allows"
        fix "add it to allow in [admin] if it should be"
        explanation "Status and metrics show the names of upstreams and callers.";
    page_refused() "admin-web-page-refused" Error
        cause "this request came from a web page of another origin"
        fix "open the address itself"
        explanation "Browsers mark requests that a page sends (Origin, Sec-Fetch-Site).";
    host_refused() "admin-host-refused" Error
        cause "the request's Host is not a name of the admin listener"
        fix "add it to hosts in [admin]"
        explanation "Without this check, a web page could read the status by a name of its own that resolves to this machine.";
    read_only() "admin-read-only" Error
        cause "the admin listener is read only"
        fix "use GET"
        explanation "Changes are made in the configuration, and by the commands of bondgate.";
    too_many_connections(reason) "admin-too-many-connections" Warning
        cause "{reason} to the admin listener"
        fix "close open status pages, and connections that monitoring keeps open"
        explanation "The admin listener serves 64 connections at a time, fewer where the process may open few files. No setting \
            raises that: the rest is for callers. Near it, each host has a fair share.";
    viewers_full(viewers) "admin-viewers-full" Error
        cause "too many viewers follow the status page already: at most {viewers} do, and three quarters of them from one host"
        fix "close one of them, or reload the page to see its present state"
        explanation "Each open status page holds a connection of the admin listener, which health checks need, too.";
    only_local(reason) "admin-only-local" Error
        cause "only this machine may read the log here, and {reason}"
        fix "run `bondgate support` where the daemon runs; for a container, in the container"
        explanation "The lines of the log name callers, paths, files and client ids. A request with Forwarded, X-Forwarded-*, \
            X-Real-IP or Via came through a proxy, whose callers may be on other machines. A proxy on this machine that adds \
            none of these fields is not recognized: let it relay neither /log nor /recent.";
    path_unknown() "admin-path-unknown" Error
        cause "this path does not exist"
        fix "use /, /livez, /readyz, /readyz?token, /status.json, /metrics, /recent or /log"
        explanation "The README describes each of them.";
}
