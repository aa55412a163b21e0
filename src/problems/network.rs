//! Names and connections.

use super::entry::problems;
use crate::platform::shell::{LOOK_UP, NAME_SERVERS};

problems! {
    area Network;

    name_not_found(call, host) "name-not-found" Error
        cause "the name {host} of the {call} does not exist"
        fix "correct the name in the configuration, or set proxy if names of the internet are known only to an outbound proxy"
        explanation "The name server answered that there is no such name. In many company networks only the outbound proxy \
            resolves names of the internet: set proxy in the upstream's section. `getent hosts NAME` \
            (Windows: `Resolve-DnsName NAME`) asks the same name server.";
    resolver_silent(call, host) "resolver-silent" Error
        cause "no name server responds to the lookup of {host} for the {call}"
        fix "correct {NAME_SERVERS}, or open port 53 to them (UDP and TCP)"
        explanation "The lookup ended without an answer. A firewall drops the packets, or the name servers of this \
            machine are not those of this network, as after a move of the machine or on a new pod network.";
    resolver_failed(call, host) "resolver-failed" Error
        cause "the name server reports a failure for {host} of the {call}"
        fix "ask the administrators of the name server, which is among {NAME_SERVERS}; `{LOOK_UP} {host}` repeats the lookup"
        explanation "The name server answered, but not with an address and not that the name is unknown: it refuses lookups from \
            this machine (REFUSED), or could not reach the name servers of the domain (SERVFAIL).";
    lookup_slow(host, seconds) "lookup-slow" Warning
        cause "the lookup of {host} took {seconds} s"
        fix "remove the name server that does not respond from {NAME_SERVERS}"
        explanation "Lookups that take a multiple of 5 s show that the first name server does not respond and the second does. \
            Each new connection can be late by as much.";
    connection_refused(call, to, address) "connection-refused" Error
        cause "{to} ({address}) refuses the connection for the {call}"
        fix "correct host and port in the configuration; if they are right, ask for the firewall to let this machine connect"
        explanation "The host responded that nothing listens on the port, or a firewall rejected the connection in its name. If \
            this network reaches the internet only by an outbound proxy, set proxy.";
    connection_timed_out(call, to, address) "connection-timed-out" Error
        cause "{to} ({address}) does not respond to the connection for the {call}"
        fix "ask for the firewall to let this machine connect to {to}, or set proxy if the network has an outbound proxy"
        explanation "The packets of the connection have no answer, which is how most firewalls refuse. timeout.connect limits the \
            wait.";
    network_unreachable(call, to, address) "network-unreachable" Error
        cause "this machine has no route to {to} ({address}) for the {call}"
        fix "correct the machine's routes, or set proxy if the network has an outbound proxy"
        explanation "The machine's own system refused: it has no default route, or no route for this kind of address (IPv6).";
    connection_reset(call, to) "connection-reset" Error
        cause "{to} closed the connection for the {call} before TLS was established"
        fix "ask for the firewall or inspection device on the way to allow {to}, or set proxy if the network has an outbound proxy"
        explanation "TCP connects and ends at once or in the TLS handshake. Firewalls do so that recognize the name in the \
            handshake, and load balancers without a server behind them.";
    connection_forbidden(call, to) "connection-forbidden" Error
        cause "this machine's own rules forbid the connection to {to} for the {call}"
        fix "restart bondgate if the port of the outbound proxy has changed since its start; else change the local firewall or policy"
        explanation "The system refused with `permission denied`. bondgate's sandbox allows the ports of its configuration at the \
            start; a changed HTTPS_PROXY or proxy file can name another port. A local firewall or SELinux policy refuses alike.";
    login_page(call, host, title) "login-page" Error
        cause "{host} responded to the {call} with an HTML page{title}, as a login page of the network does"
        fix "open http://{host} in a browser on this machine and log in, or have this machine exempted"
        explanation "Captive portals, single sign-on and block pages respond 200 in place of the service, which responds in JSON.";
    call_failed_once(call, what) "call-failed-once" Warning
        cause "the {call} failed once ({what}), and the way to its server works now"
        fix "do nothing unless it repeats: then the connection between this machine and the server is unstable"
        explanation "After the failure, bondgate connected step by step and each step succeeded. The next attempt follows by itself.";
}
