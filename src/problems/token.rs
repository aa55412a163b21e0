//! Requests for a token.

use super::entry::problems;
use crate::platform::shell::SET_CLOCK;

problems! {
    area Token;

    credentials_hang() "credentials-hang" Error
        cause "reading the credentials takes over 5 s"
        fix "check the file system that they are on"
        explanation "A network file system that does not respond blocks the read. bondgate keeps its current token meanwhile.";
    secret_refused(host, client_id) "client-secret-refused" Error
        cause "{host} knows the client id {client_id} and refuses the client secret"
        fix "store the secret that was issued with this client id; bondgate reads the file again within 15 s, but one that systemd hands \
            over (LoadCredential=) only after `systemctl restart bondgate`"
        explanation "The identity service names the secret as the cause. A secret that was replaced, a missing character from copy \
            and paste, and one from another client id look the same.";
    client_id_unknown(host, client_id, environment) "client-id-unknown" Error
        cause "{host} does not know the client id {client_id}"
        fix "correct client_id; {environment}"
        explanation "Client ids of stage are unknown in production, and the reverse: preset must match the credentials.";
    wrong_environment(other, host, environment) "wrong-environment" Error
        cause "{other}, and {host} belongs to {environment}: credentials of one are unknown to the other"
        fix "use the preset of the environment that the credentials were issued for, and remove url and token_url"
        explanation "Stage is stage.sbnprd.xylem.cisco.com with int-id.cisco.com, production is sb.xylem.cisco.com with id.cisco.com."
        hides "client-id-unknown" "client-secret-refused" "credentials-refused" "api-rejects-token";
    credentials_not_found(host, client_auth, other) "credentials-not-found" Error
        cause "{host} found no credentials in the token request, which sent them by client_auth = \"{client_auth}\""
        fix "set client_auth = \"{other}\" (\"query\" is Option 1 of Cisco's page, \"form\" is Option 2)"
        explanation "Cisco's page calls credentials as parameters \"Option 1\" (client_auth = \"query\") and credentials in the \
            request body \"Option 2\" (client_auth = \"form\", the default). A proxy in between that drops the body looks the same.";
    credentials_twice(host) "credentials-twice" Error
        cause "{host} found more than one set of credentials in the token request"
        fix "remove client_id and client_secret from token_url"
        explanation "bondgate sends them once, in the place that client_auth names.";
    grant_refused(host, client_id, details) "grant-refused" Error
        cause "{host} does not grant client_credentials to the client id {client_id} ({details})"
        fix "ask Cisco to enable the client credentials grant for it"
        explanation "The client exists, and its registration does not include this grant (RFC 6749 §5.2, unauthorized_client).";
    scope_refused(host, requested, details, removal) "scope-refused" Error
        cause "{host} refuses {requested} ({details})"
        fix "set scope to the one that the credentials were issued with{removal}"
        explanation "Smart Bonding needs no scope. Other authorization servers require one.";
    policy_refused(host, client_id, details) "policy-refused" Error
        cause "a policy of {host} refuses the client id {client_id} ({details})"
        fix "ask Cisco to assign the client to the API"
        explanation "The credentials are right, and no access policy of the authorization server names the client.";
    credentials_inactive(host, client_id, details) "credentials-inactive" Error
        cause "{host} knows the client id {client_id}, which is not active ({details})"
        fix "wait some minutes if it was issued just now; else ask Cisco to activate it"
        explanation "New credentials are refused for some minutes after they are issued.";
    credentials_refused(host, details, environment) "credentials-refused" Error
        cause "{host} refuses the credentials ({details})"
        fix "compare client_id and client_secret with those that were issued for this token_url; {environment}"
        explanation "The identity service does not say which part it refuses. Compare both, and the environment.";
    path_wrong(host, path, status, wrong) "token-path-wrong" Error
        cause "{host} has no token endpoint at {path} ({status})"
        fix "correct the {wrong} of token_url; Cisco's are int-id.cisco.com (stage), id.cisco.com and /oauth2/default/v1/token"
        explanation "The host responds, and the path does not exist there or accepts no POST.";
    request_refused(host, status, details) "token-request-refused" Error
        cause "{host} refuses the form of the token request ({status}: {details})"
        fix "set client_auth to the form that it expects (form, query, mixed or basic)"
        explanation "The request itself is refused, not the credentials in it.";
    redirects(host, location) "token-redirect" Error
        cause "{host} redirects the token request to {location}"
        fix "if that is a login page, log in there or have this machine exempted; if the service has moved, correct token_url"
        explanation "Redirects are never followed: they would send the credentials to another place.";
    rate_limited(host) "token-rate-limited" Warning
        cause "{host} limits token requests (429)"
        fix "do nothing: bondgate waits as long as it asks; if it repeats, run fewer copies with one client id"
        explanation "The limit counts all clients of an organization together, so that others can exhaust it.";
    unavailable(host, status) "token-unavailable" Warning
        cause "{host} is temporarily unavailable ({status})"
        fix "do nothing: bondgate tries again by itself, and a valid token serves until it expires"
        explanation "The identity service, or a gateway in front of it, reports a failure of its own.";
    page(host, status, title) "token-page" Error
        cause "{host} responded {status} to the token request with an HTML page{title}"
        fix "a gateway or proxy responds in its place: correct token_url or proxy, or have this machine allowed there"
        explanation "Block pages of security gateways come with 403 or 503. The page says nothing about the credentials.";
    response_encoded(host, coding) "token-response-encoded" Error
        cause "the token response of {host} is compressed ({coding}), although bondgate asks for plain text"
        fix "the operator of the gateway or proxy in between must pass Accept-Encoding on"
        explanation "bondgate sends Accept-Encoding: identity with token requests.";
    response_empty(host, status) "token-response-empty" Error
        cause "{host} responded {status} to the token request with an empty body"
        fix "correct token_url; if it is right, a device in between removes the body: ask its administrators"
        explanation "A token response is a JSON object.";
    response_not_json(host, kind) "token-response-not-json" Error
        cause "{host} responded to the token request with {kind}, which is not JSON"
        fix "correct token_url"
        explanation "RFC 6749 §5.1 requires a JSON object.";
    response_unusable(host, reason) "token-response-unusable" Error
        cause "{host} responded to the token request without a usable token: {reason}"
        fix "correct token_url; if it is right, report this to the operator of the identity service"
        explanation "A usable response has access_token and, if at all, token_type Bearer and a number as expires_in.";
    response_too_large(host) "token-response-too-large" Error
        cause "the token response of {host} is over 64 KiB, or its head over 64 KiB or 1,000 fields"
        fix "correct token_url"
        explanation "A token response has a few KiB at most.";
    not_http(to) "token-response-not-http" Error
        cause "{to} does not respond in HTTP/1.1 to the token request"
        fix "correct host and port of token_url"
        explanation "The port belongs to another service, or a device in between damages the response.";
    cut_short(to) "token-response-cut" Error
        cause "{to} closed the connection before its token response was complete"
        fix "ask for the firewall or load balancer on the way to leave connections to {to} open"
        explanation "The request was sent. bondgate tries again by itself.";
    silent(to, seconds) "token-silent" Error
        cause "{to} accepted the token request and has not responded within {seconds} s"
        fix "do nothing at first: bondgate tries again; if it lasts, ask the operator of the identity service"
        explanation "The connection is established, so that the network is in order.";
    no_successor() "token-not-renewed" Error
        cause "the identity service returns an expired token and no successor"
        fix "report this to the operator of the identity service: its clock or its cache is wrong"
        explanation "Some services return the same token until it expires; its successor did not come.";
    tokens_expire_at_once() "tokens-expire-at-once" Error
        cause "tokens expire as soon as they are issued"
        fix "run NTP on this machine ({SET_CLOCK})"
        explanation "This machine's clock jumps forward, so that a token that was valid a moment ago has expired.";
    lifetime_short(seconds) "token-lifetime-short" Error
        cause "the identity service issues tokens that expire after {seconds} s (expires_in)"
        fix "ask its operator for a longer lifetime: some minutes at least"
        explanation "Each request would need a token of its own, or come with one that has expired on the way. Cisco's tokens live for \
            an hour."
        hides "api-rejects-token";
    not_yet() "token-not-yet" Warning
        cause "the identity service has not responded yet"
        fix "do nothing: the first token is being fetched"
        explanation "bondgate has just started, or has just got new credentials.";
    not_renewed_yet() "token-not-renewed-yet" Warning
        cause "the identity service still returns a token that is no longer valid"
        fix "do nothing: bondgate asks again in a moment"
        explanation "Some identity services return a token until its last second, and its successor after that.";
}
