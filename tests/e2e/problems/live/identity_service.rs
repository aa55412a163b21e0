//! Failures that the identity service responds with.

use super::*;

#[expect(clippy::too_many_lines, reason = "it is one table")]
#[tokio::test]
async fn each_failure_of_the_identity_service_is_named_in_each_place() {
    let error = |code: &str, text: &str| format!("{{\"error\":\"{code}\",\"error_description\":\"{text}\"}}");
    let okta = |text: &str| {
        format!("{{\"errorCode\":\"invalid_client\",\"errorSummary\":\"{text}\",\"errorCauses\":[]}}")
    };
    let json = [("content-type", "application/json")];
    let mut all: Vec<(String, Injection)> = Vec::new();
    let mut add = |name: &str, kind: Kind, code: &'static str| {
        all.push((
            name.to_owned(),
            faulty(On::Token, kind, Call::Token, code, true, ""),
        ));
    };
    add(
        "secret",
        response(
            401,
            &json,
            &error(
                "invalid_client",
                "The client secret supplied for a confidential client is invalid.",
            ),
        ),
        "client-secret-refused",
    );
    add(
        "client id",
        response(400, &json, &okta("Invalid value for 'client_id' parameter.")),
        "client-id-unknown",
    );
    add(
        "no credentials",
        response(401, &json, &okta("No client credentials found.")),
        "credentials-not-found",
    );
    add(
        "two credentials",
        response(
            400,
            &json,
            &error("invalid_request", "Cannot supply multiple client credentials."),
        ),
        "credentials-twice",
    );
    add(
        "grant",
        response(400, &json, &error("unsupported_grant_type", "no")),
        "grant-refused",
    );
    add(
        "grant of client",
        response(
            403,
            &json,
            &error(
                "unauthorized_client",
                "The client is not authorized to use the provided grant type.",
            ),
        ),
        "grant-refused",
    );
    add(
        "scope",
        response(
            400,
            &json,
            &error("invalid_scope", "One or more scopes are not configured."),
        ),
        "scope-refused",
    );
    add(
        "policy",
        response(403, &json, &error("access_denied", "Policy evaluation failed.")),
        "policy-refused",
    );
    add(
        "not active",
        response(
            401,
            &json,
            &error("invalid_client", "The client is not active yet."),
        ),
        "credentials-inactive",
    );
    add(
        "not authorized",
        response(
            403,
            &json,
            &error("access_denied", "The client is not authorized."),
        ),
        "credentials-inactive",
    );
    add(
        "refused",
        response(401, &json, &error("invalid_client", "no")),
        "credentials-refused",
    );
    add(
        "refused without a body",
        response(401, &[], ""),
        "credentials-refused",
    );
    add(
        "error in 200",
        response(200, &json, &error("invalid_scope", "no")),
        "scope-refused",
    );
    add(
        "wrong path",
        response(404, &json, "{\"message\":\"not found\"}"),
        "token-path-wrong",
    );
    add("method", response(405, &json, "{}"), "token-path-wrong");
    add("transparent proxy", response(407, &[], ""), "proxy-transparent");
    add(
        "no lifetime",
        response(200, &json, "{\"access_token\":\"t\",\"expires_in\":0}"),
        "token-lifetime-short",
    );
    add("media type", response(415, &json, "{}"), "token-request-refused");
    add(
        "redirect",
        response(302, &[("location", "https://sso.corp/login?x=1")], ""),
        "token-redirect",
    );
    add(
        "limited",
        response(429, &[("retry-after", "1")], ""),
        "token-rate-limited",
    );
    add("down", response(503, &json, "{}"), "token-unavailable");
    add(
        "page 403",
        response(403, &[("content-type", "text/html")], "<title>Blocked</title>"),
        "token-page",
    );
    add("page 503", Kind::Html { status: 503 }, "token-page");
    add("page 200", Kind::Html { status: 200 }, "login-page");
    add("empty", Kind::Empty, "token-response-empty");
    add(
        "form",
        response(200, &[], "access_token=x&token_type=bearer"),
        "token-response-not-json",
    );
    add("text", response(200, &[], "ok"), "token-response-not-json");
    add("half JSON", Kind::TruncatedJson, "token-response-unusable");
    add("no token", Kind::NoAccessToken, "token-response-unusable");
    add("bad token", Kind::BadToken, "token-response-unusable");
    add(
        "other type",
        response(200, &json, "{\"access_token\":\"x\",\"token_type\":\"mac\"}"),
        "token-response-unusable",
    );
    add(
        "gzip",
        response(200, &[("content-encoding", "gzip")], "not json"),
        "token-response-encoded",
    );
    add(
        "no HTTP",
        Kind::Raw {
            bytes: "hello\r\n\r\n".into(),
        },
        "token-response-not-http",
    );
    add("closed", Kind::Close, "token-response-cut");
    add("reset", Kind::Reset, "token-response-cut");
    add("half", Kind::Half { then: Then::Close }, "token-response-cut");
    assert_each_is_reported(all).await;
}
