use secrecy::SecretString;

use super::super::response::{Grant, parse};
use super::*;
use crate::config::Config;

/// An upstream with these keys in addition.
pub(in super::super) fn upstream(keys: &str) -> Upstream {
    let preset = if keys.contains("preset") {
        ""
    } else {
        "preset = \"smart-bonding-stage\""
    };
    let text = format!(
        "[upstream.cisco]\n{preset}\nclient_id = \"id\"\nclient_secret = {{ file = \"/s\" }}\n{keys}"
    );
    Config::parse(&text, "f", []).unwrap().upstreams.remove(0)
}

/// What a response with these fields means; the client's id is "0oa1" and its secret "hunter2".
pub(in super::super) fn response(
    upstream: &Upstream,
    status: u16,
    fields: &[(&'static str, &str)],
    body: &[u8],
) -> Result<Grant, FetchError> {
    let secret = SecretMatcher::new(&SecretString::from("hunter2"));
    let request = TokenRequestContext {
        upstream,
        client_id: "0oa1",
        secret,
    };
    let fields = fields
        .iter()
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let status = StatusCode::from_u16(status).unwrap();
    parse(status, &fields.collect(), body, &request)
}

fn problem(status: u16, fields: &[(&'static str, &str)], body: &str) -> (Kind, &'static str, String) {
    let error = response(&upstream(""), status, fields, body.as_bytes()).unwrap_err();
    (error.kind, error.problem.code(), error.to_string())
}

#[test]
fn each_refusal_is_one_cause() {
    for (status, body, code) in [
        (
            401,
            r#"{"error":"invalid_client","error_description":"The client secret supplied for a confidential client is invalid."}"#,
            "client-secret-refused",
        ),
        (
            400,
            r#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id' parameter.","errorCauses":[]}"#,
            "client-id-unknown",
        ),
        (
            401,
            r#"{"errorCode":"invalid_client","errorSummary":"No client credentials found."}"#,
            "credentials-not-found",
        ),
        (
            400,
            r#"{"errorCode":"invalid_request","errorSummary":"Cannot supply multiple client credentials. Use one of the following."}"#,
            "credentials-twice",
        ),
        (400, r#"{"error":"unsupported_grant_type"}"#, "grant-refused"),
        (
            400,
            r#"{"error":"unauthorized_client","error_description":"The client is not authorized to use the provided grant type."}"#,
            "grant-refused",
        ),
        (
            403,
            r#"{"error":"unauthorized_client","error_description":"The client is not authorized."}"#,
            "credentials-inactive",
        ),
        (
            401,
            r#"{"error":"invalid_client","error_description":"The client is inactive."}"#,
            "credentials-inactive",
        ),
        (
            400,
            r#"{"error":"invalid_scope","error_description":"One or more scopes are not configured"}"#,
            "scope-refused",
        ),
        (
            403,
            r#"{"error":"access_denied","error_description":"Policy evaluation failed for this request"}"#,
            "policy-refused",
        ),
        (401, r#"{"error":"invalid_client"}"#, "credentials-refused"),
        (401, "", "credentials-refused"),
        (200, r#"{"error":"invalid_scope"}"#, "scope-refused"),
    ] {
        assert_eq!(problem(status, &[], body).1, code, "{body}");
        assert_eq!(problem(status, &[], body).0, Kind::Refused, "{body}");
    }
}

#[test]
fn each_refusal_of_microsoft_and_keycloak_is_one_cause() {
    for (status, body, code) in [
        (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '0oa1'."}"#,
            "client-secret-refused",
        ),
        (
            400,
            r#"{"error":"unauthorized_client","error_description":"AADSTS700016: Application with identifier '0oa1' was not found in the directory 'Contoso'."}"#,
            "client-id-unknown",
        ),
        (
            400,
            r#"{"error":"invalid_scope","error_description":"AADSTS1002012: The provided value for scope x is not valid."}"#,
            "scope-refused",
        ),
        (
            400,
            r#"{"error":"invalid_request","error_description":"AADSTS900144: The request body must contain the following parameter: 'scope'."}"#,
            "scope-refused",
        ),
        (
            401,
            r#"{"error":"invalid_client","error_description":"AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'."}"#,
            "credentials-not-found",
        ),
        (
            400,
            r#"{"error":"invalid_request","error_description":"AADSTS90002: Tenant 'x' not found."}"#,
            "token-path-wrong",
        ),
        (
            401,
            r#"{"error":"unauthorized_client","error_description":"Invalid client or Invalid client credentials"}"#,
            "credentials-refused",
        ),
        (
            401,
            r#"{"error":"unauthorized_client","error_description":"Invalid client secret"}"#,
            "client-secret-refused",
        ),
        (
            401,
            r#"{"error":"unauthorized_client","error_description":"Client not enabled to retrieve service account"}"#,
            "grant-refused",
        ),
        (
            401,
            r#"{"errorCode":"invalid_client","errorSummary":"Client authentication failed. Either the client or the client credentials are invalid."}"#,
            "credentials-refused",
        ),
    ] {
        assert_eq!(problem(status, &[], body).1, code, "{body}");
    }
}

#[test]
fn credentials_of_another_environment_are_reported_as_such() {
    const PROD: &str = "url = \"https://sb.xylem.cisco.com\"\ntoken_url = \"https://id.cisco.com/x\"";
    for (text, code) in [
        ("Invalid value for 'client_id' parameter.", "client-id-unknown"),
        ("The client secret supplied is invalid.", "client-secret-refused"),
        ("no", "credentials-refused"),
    ] {
        let body = format!(r#"{{"errorCode":"invalid_client","errorSummary":"{text}"}}"#);
        for (keys, code) in [
            (PROD, "wrong-environment"),
            ("token_url = \"https://int-id.cisco.com/x\"", code),
            ("token_url = \"https://login.example/x\"", code),
        ] {
            let error = response(&upstream(keys), 400, &[], body.as_bytes()).unwrap_err();
            assert_eq!(error.problem.code(), code, "{keys}");
        }
    }
}

#[test]
fn a_fix_does_not_name_what_is_set_already() {
    let scope = |keys: &str| {
        response(&upstream(keys), 400, &[], br#"{"error":"invalid_scope"}"#)
            .unwrap_err()
            .to_string()
    };
    assert!(scope("scope = \"a\"").contains("\"a\"") && scope("scope = \"a\"").contains("remove it"));
    assert!(
        !scope("").contains("\"\"") && !scope("").contains("remove it"),
        "{}",
        scope("")
    );
    let path = |keys: &str| {
        response(&upstream(keys), 404, &[], b"{}")
            .unwrap_err()
            .to_string()
    };
    assert!(path("token_url = \"https://a.example/token\"").contains("correct the path"));
    assert!(path("token_url = \"https://a.example/oauth2/default/v1/token\"").contains("correct the host"));
}

#[test]
fn a_response_of_another_server_says_nothing_about_the_credentials() {
    let html = "<html><TITLE>Access denied</title>";
    for (status, fields, body, code) in [
        (403, &[][..], html, "token-page"),
        (
            401,
            &[("content-type", "text/html;charset=utf-8")],
            "no",
            "token-page",
        ),
        (503, &[], html, "token-page"),
        (200, &[], html, "login-page"),
        (
            302,
            &[("location", "https://login.corp/?user=x")],
            "",
            "token-redirect",
        ),
        (404, &[], "{}", "token-path-wrong"),
        (405, &[], "", "token-path-wrong"),
        (415, &[], "", "token-request-refused"),
        (
            200,
            &[("content-encoding", "gzip")],
            "x",
            "token-response-encoded",
        ),
        (204, &[], "", "token-response-empty"),
        (200, &[], "access_token=x&expires_in=3", "token-response-not-json"),
    ] {
        let (kind, found, text) = problem(status, fields, body);
        assert_eq!(found, code, "{status} {body}");
        assert!(!kind.is_misconfiguration(), "{status} {body}");
        assert!(!text.contains("user=x"), "{text}");
    }
    assert!(problem(403, &[], html).2.contains("\"Access denied\""));
    let gzip = response(&upstream(""), 200, &[], &[0x1f, 0x8b, 8, 0]).unwrap_err();
    assert_eq!(gzip.problem.code(), "token-response-encoded");
}

#[test]
fn texts_that_contain_the_secret_are_left_out() {
    let body = r#"{"error":"invalid_client","error_description":"HUNTER2 is wrong"}"#;
    assert!(!problem(401, &[], body).2.to_lowercase().contains("hunter2"));
    let page = problem(403, &[], "<html><title>hunter2</title>").2;
    assert!(!page.contains("hunter2"), "{page}");
}

#[test]
fn transient_failures_have_kinds_that_are_retried() {
    for (status, kind) in [
        (429, Kind::RateLimited),
        (408, Kind::Unavailable),
        (425, Kind::Unavailable),
        (500, Kind::Unavailable),
        (503, Kind::Unavailable),
        (302, Kind::Malformed),
        (204, Kind::Malformed),
        (596, Kind::Unavailable),
    ] {
        assert_eq!(problem(status, &[], "").0, kind, "{status}");
    }
    let busy = problem(400, &[], r#"{"error":"temporarily_unavailable"}"#);
    assert_eq!(busy.0, Kind::Unavailable);
}

#[test]
fn another_preset_is_advised_only_where_it_would_change_an_endpoint() {
    const UNKNOWN: &[u8] =
        br#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id' parameter."}"#;
    const URL: &str = "url = \"https://localhost:1\"\n";
    const TOKEN_URL: &str = "token_url = \"https://localhost:1/t\"\n";
    for (keys, is_advised) in [
        ("", true),
        (TOKEN_URL, true),
        (&*[URL, TOKEN_URL].concat(), false),
    ] {
        let fix = response(&upstream(keys), 400, &[], UNKNOWN).unwrap_err().problem;
        assert_eq!(fix.fix().contains("preset"), is_advised, "{fix}");
        assert!(fix.fix().contains("the credentials were issued for"), "{fix}");
    }
}
