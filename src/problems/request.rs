//! Requests that bondgate refuses or ends itself.

use super::entry::problems;

problems! {
    area Request;

    malformed(reason, fix) "request-malformed" Error
        cause "{reason}"
        fix "{fix}"
        explanation "The request is not valid HTTP/1.1 (RFC 9112), or is one that proxies and servers read in different ways. \
            bondgate refuses it rather than guess.";
    path_ambiguous(reason, fix) "path-ambiguous" Error
        cause "{reason}"
        fix "{fix}"
        explanation "Servers read such a path in different ways, so that a rule for it would not hold. The path is passed on byte for \
            byte, and only in a form that every server reads alike.";
    too_large(reason, fix) "request-too-large" Error
        cause "{reason}"
        fix "{fix}"
        explanation "The section limits of the configuration bounds what a request may hold.";
    head_timed_out(limit) "request-timed-out" Error
        cause "the request's head took longer than {limit} (limits.first_byte)"
        fix "send it at once"
        explanation "A caller that opens a connection and sends its request slowly would hold the connection for ever.";
    body_cut() "body-cut" Error
        cause "the request's body ended early"
        fix "send as many bytes as Content-Length says"
        explanation "The caller's connection broke, or its chunked coding is invalid. The upstream did not get the whole request.";
    body_stalled() "body-stalled" Error
        cause "the request's body stalled for longer than timeout.idle"
        fix "send the body without pauses, or raise timeout.idle"
        explanation "The caller sent a part of the body and then nothing.";
    method_not_relayed(reason, fix) "method-not-relayed" Error
        cause "{reason}"
        fix "{fix}"
        explanation "CONNECT would make bondgate a proxy for any host, and TRACE would return the token.";
    tls_expected() "tls-expected" Error
        cause "this listener speaks TLS"
        fix "use an https:// URL"
        explanation "The listener has tls in its section, and the caller sent plain HTTP.";
    caller_handshake_failed(reason) "caller-handshake-failed" Error
        cause "the TLS handshake with the caller failed: {reason}"
        fix "correct the caller: it must trust this listener's certificate, offer TLS 1.2 or newer and HTTP/1.1, and present a \
            certificate if tls.client_ca_file is set"
        explanation "The caller got a TLS alert, and no response. The line `TLS handshake failed` in the log has the reason of each, \
            and the caller's address. Port scanners cause it too.";
    client_certificate_refused() "client-certificate-refused" Error
        cause "the caller's certificate is no longer from tls.client_ca_file"
        fix "connect with one that is"
        explanation "A reload has changed tls.client_ca_file. Open connections are checked against the new file.";
    address_unknown() "caller-address-unknown" Error
        cause "the caller's address is unknown: the trusted proxy did not send a valid one in X-Forwarded-For"
        fix "configure that proxy to set X-Forwarded-For, or remove it from trusted_proxies"
        explanation "The listener allows some networks only, and the address of a trusted proxy says nothing about its callers.";
    address_refused(address) "caller-address-refused" Error
        cause "the caller's address {address} is not in allow of this listener"
        fix "if it should be, add it there"
        explanation "allow lists the networks that may call.";
    user_refused(user) "caller-user-refused" Error
        cause "the caller's user id{user} is not in users of this listener"
        fix "if it should be, add it there"
        explanation "users lists the user ids that may call at a unix socket.";
    host_refused(host) "host-refused" Error
        cause "the request's Host{host} is not one of this listener's names"
        fix "if it should be, add it to hosts of the listener"
        explanation "Without this check, a web page could reach bondgate by a name of its own that resolves to this machine (DNS \
            rebinding). Names of loopback, IP addresses and the upstream's name are always accepted.";
    page_refused() "web-page-refused" Error
        cause "a web page sent this request, and this listener does not accept requests of web pages"
        fix "if it should, add the page's origin to origins of the listener"
        explanation "Browsers mark requests that a page sends (Origin, Sec-Fetch-Site). A page could take messages off a queue.";
    browser_refused(command, admin) "browser-refused" Error
        cause "this address is for programs, not for browsers: a click here could take a message off a queue"
        fix "run `{command}`; the status page is at {admin}"
        explanation "Browsers mark the addresses that a person opens (Sec-Fetch-Mode).";
    header_missing(name) "header-missing" Error
        cause "this listener requires the header field {name}, with any value"
        fix "configure the caller to send it"
        explanation "require_header names a field that web pages cannot send without permission.";
    key_missing() "caller-key-missing" Error
        cause "this listener requires a caller key"
        fix "send name and key by HTTP Basic (curl -u NAME:KEY), or the key in X-Bondgate-Key"
        explanation "keys of the listener names the file with the keys of its callers.";
    key_refused() "caller-key-refused" Error
        cause "the caller's key is not one of this listener's keys"
        fix "send name and key by HTTP Basic (curl -u NAME:KEY), or the key in X-Bondgate-Key"
        explanation "keys of the listener names the file with the keys of its callers, one NAME:KEY in each line. A changed file is \
            read after `systemctl reload bondgate`, SIGHUP or `bondgate service reload`.";
    loops() "request-loop" Error
        cause "the request has passed through bondgate before: an upstream's url leads back to bondgate"
        fix "correct url of the upstream"
        explanation "The Via field of the request names bondgate already (RFC 9110 §7.6.3).";
    path_refused(upstream) "path-not-allowed" Error
        cause "no rule of upstream {upstream} allows this path"
        fix "if one should, add it to rules"
        explanation "A preset has rules for the paths of its API. `bondgate check --print` shows them.";
    method_refused(upstream, allowed, method) "method-not-allowed" Error
        cause "the rules of upstream {upstream} allow {allowed} on this path, not {method}"
        fix "use one of these, or add the method to the rule"
        explanation "A rule names the methods that it allows.";
    too_many_connections(reason) "too-many-connections" Warning
        cause "{reason} (limits.connections)"
        fix "close idle connections, or raise limits.connections"
        explanation "limits.connections bounds the connections of all callers together. Near it, each caller has a fair share.";
    too_many_requests(reason) "too-many-requests" Warning
        cause "{reason}"
        fix "send fewer at a time, or raise limits.in_flight or limits.per_caller"
        explanation "limits.in_flight bounds the requests of all callers together, limits.per_caller those of each. Near the first, \
            each caller has a fair share.";
    stopping(reason) "stopping" Warning
        cause "bondgate is stopping{reason}"
        fix "send the request again in a moment"
        explanation "A stop or a restart drains: requests that have begun are finished, within server.drain.";
    bug(reason) "bug" Error
        cause "{reason}"
        fix "please report it"
        explanation "The log has the details. One request fails, and bondgate continues.";
    body_not_kept() "body-not-kept" Warning
        cause "the upstream rejected the token, and bondgate has not kept this body to send it again"
        fix "do nothing: a new token is being fetched; raise replay of the upstream if it happens often"
        explanation "After a 401, a request is repeated once with a new token. replay bounds the body that is kept for that.";
    upload_stalled() "upload-stalled" Error
        cause "the upstream read nothing of the request for timeout.idle"
        fix "do nothing at first; if it lasts, ask Cisco, or raise timeout.idle"
        explanation "The connection is open, and the upstream does not take the rest of the body.";
    protocol_switched() "protocol-switched" Error
        cause "the upstream switched protocols without a request to"
        fix "correct url: it may not be an HTTP API"
        explanation "bondgate removes Upgrade from requests, so that 101 is no valid response.";
    no_connection() "no-connection-in-time" Error
        cause "there was no connection to the upstream within timeout.head"
        fix "raise timeout.head, or find out with `bondgate check --live` why connecting takes so long"
        explanation "timeout.connect bounds one attempt, timeout.head the whole wait for a response.";
}
