//! The outbound proxy.

use super::entry::problems;

problems! {
    area OutboundProxy;

    unreachable(proxy, reason) "proxy-unreachable" Error
        cause "the outbound proxy {proxy} cannot be reached ({reason})"
        fix "correct host and port in proxy, or ask the proxy's administrators"
        explanation "The name of the proxy has no address, or no connection to it is possible. The configuration key proxy, or \
            HTTPS_PROXY with proxy = \"environment\", names it."
        hides "name-not-found" "resolver-silent" "resolver-failed";
    auth_needed(proxy) "proxy-auth-needed" Error
        cause "the outbound proxy {proxy} requires a login (407), and proxy has none"
        fix "set proxy to a file that contains http://USER:PASSWORD@{proxy}; percent-encode special characters of user and password"
        explanation "The proxy accepts Basic credentials. Its administrators issue them; a service account is usual.";
    auth_refused(proxy) "proxy-auth-refused" Error
        cause "the outbound proxy {proxy} refuses the user or password in proxy (407)"
        fix "correct them in proxy; bondgate does not send the refused ones again before they change or it restarts"
        explanation "Repeated logins with a wrong password lock the account at many companies, so bondgate sends refused \
            credentials once. A special character in the password must be percent-encoded in the URL (@ is %40).";
    auth_ntlm_only(proxy, schemes) "proxy-auth-ntlm-only" Error
        cause "the outbound proxy {proxy} offers only {schemes} as a login, which bondgate does not speak"
        fix "run a local helper that logs in (cntlm or px) and set proxy to its address; or ask for an exception for this machine"
        explanation "NTLM, Negotiate and Kerberos log in a Windows account. cntlm and px hold its credentials, accept plain \
            requests on localhost, and log in at the proxy.";
    host_forbidden(proxy, to, status) "proxy-host-forbidden" Error
        cause "the outbound proxy {proxy} returned {status}: it does not allow connections to {to}"
        fix "ask the proxy's administrators, who control which hosts are allowed, to allow CONNECT to {to}"
        explanation "The proxy works and refuses this host or port. Both the token URL and the API URL must be allowed.";
    cannot_reach(proxy, to, status) "proxy-cannot-reach" Error
        cause "the outbound proxy {proxy} returned {status}: it cannot connect to {to}"
        fix "ask the proxy's administrators why; correct the host in the configuration if it has a typing error"
        explanation "The proxy accepted the request and failed itself: it cannot resolve the name, or its own way is closed.";
    redirects(proxy, location) "proxy-redirects" Error
        cause "the outbound proxy {proxy} redirects to {location} instead of connecting"
        fix "log in at that page once from this machine, or ask for an exception for this machine"
        explanation "Proxies redirect to a login or terms page before they let a machine through.";
    not_http(proxy) "proxy-not-http" Error
        cause "{proxy} does not respond as an HTTP proxy"
        fix "correct the port in proxy; a SOCKS proxy, or one that needs TLS, cannot be used"
        explanation "Its response to CONNECT is not HTTP/1. The port belongs to another service.";
    transparent(call, to) "proxy-transparent" Error
        cause "{to} responded 407 to the {call}: a proxy in between, which the configuration does not name, requires a login"
        fix "set proxy to its address with a login, which its administrators know; or ask for an exception for this machine"
        explanation "Only proxies respond 407. This one takes connections over without being asked (a transparent proxy).";
    silent(proxy) "proxy-silent" Error
        cause "the outbound proxy {proxy} accepted the connection and does not respond to CONNECT"
        fix "ask the proxy's administrators; correct the port in proxy if it belongs to another service"
        explanation "The connection is open, and there is no response within timeout.connect.";
    closed(proxy) "proxy-closed" Error
        cause "the outbound proxy {proxy} closed the connection without a response to CONNECT"
        fix "ask the proxy's administrators whether this machine may use it; correct the port in proxy if it needs TLS"
        explanation "Proxies close at once for machines that their access list does not name, and when they expect TLS.";
}
