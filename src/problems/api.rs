//! The upstream's API.

use super::entry::problems;

problems! {
    area Api;

    rejects_token(to) "api-rejects-token" Error
        cause "{to} rejects a new token of the identity service"
        fix "use credentials, url and token_url of one environment, and ask Cisco whether the client may use this API"
        explanation "The API responds 401 to a token that has just been issued; Cisco's Support APIs respond 403 with \
            ERR_403_NOT_AUTHORIZED.";
    forbidden(to, path) "api-forbidden" Error
        cause "{to} forbids {path} for this client (403)"
        fix "ask Cisco to enable the API for the client id"
        explanation "The token is accepted, and the client has no permission.";
    tsp_codes_forbidden(to, path) "api-codes-forbidden" Warning
        cause "{to} forbids {path} for this client (403), which says nothing about push and pull"
        fix "ask Cisco whether the client should read TSP codes; if push and pull work, nothing needs a change"
        explanation "The check asks for the TSP codes, Cisco's list of technologies and problem codes, because the other two operations change something.";
    path_wrong(to, path) "api-path-wrong" Error
        cause "{to} has no {path} (404)"
        fix "correct the base path of url, or check_path"
        explanation "The host responds and does not know the path.";
    rate_limited(to) "api-rate-limited" Warning
        cause "{to} limits requests (429)"
        fix "let the callers pause as long as Retry-After says; if it repeats, poll less often"
        explanation "The response goes to the caller as it is.";
    unavailable(to, status) "api-unavailable" Warning
        cause "{to} responded {status}"
        fix "callers get the response: before one sends its request again, check that it was not executed; if it lasts, ask Cisco"
        explanation "The API, or a gateway in front of it, reports a failure of its own. A message may have been accepted before.";
    page(to, status, title) "api-page" Error
        cause "{to} responded {status} with an HTML page{title}"
        fix "a gateway or proxy responds in its place: correct url or proxy, or have this machine allowed there"
        explanation "The API responds in JSON.";
    redirects(to, location) "api-redirect" Error
        cause "{to} redirects to {location}"
        fix "if that is a login page, log in there or have this machine exempted; if the API has moved, correct url"
        explanation "Redirects go to the caller as they are and are never followed: the token must not go to another place.";
    responds(to, status) "api-unexpected-status" Error
        cause "{to} responded {status} to the check"
        fix "correct url or check_path"
        explanation "The check expects 2xx.";
    silent(to, seconds) "api-silent" Error
        cause "{to} accepted the request and has not responded within {seconds} s"
        fix "if it lasts, ask Cisco"
        explanation "timeout.head limits the wait for a response. The API may have executed the request.";
    cut_short(to, reason) "api-response-cut" Error
        cause "the response of {to} ended before it was complete ({reason})"
        fix "if it happens once, the server has probably restarted; if it repeats, ask for the firewall or load balancer on the way to \
            leave connections to {to} open"
        explanation "The request was sent, and the API may have executed it.";
    not_http(to, reason) "api-response-not-http" Error
        cause "{to} does not respond in valid HTTP/1.1 ({reason})"
        fix "correct host and port of url"
        explanation "The port belongs to another service, or a device in between damages the response.";
    not_checked(to) "api-not-checked" Warning
        cause "no request was sent to {to}: its preset has no path that is safe to ask for"
        fix "set check_path to a path whose GET changes nothing"
        explanation "The check must not take a message off a queue. The presets of Smart Bonding name a safe path themselves.";
}
