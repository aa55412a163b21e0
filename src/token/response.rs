//! Parses the identity service's reply to a token request: a grant or a failure.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use http::header::DATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::Value;

use super::failure::{self, FetchError, FetchErrorKind};
use super::refusal::{ErrorReply, TokenRequestContext};
use super::secret_encoding::sensitive;
use crate::problems::{Problem, token as problems};

/// A token and its lifetime, from a successful reply (RFC 6749 §5.1).
#[derive(Debug)]
pub struct Grant {
    /// `Bearer …`, marked sensitive; zeroized when the last copy is dropped.
    pub authorization: HeaderValue,
    /// Counted from the request. Zero for a token in its last second, as an identity service returns it that repeats
    /// a token until it expires; its successor is due in a moment.
    pub lifetime: Duration,
    /// The server's clock.
    pub server_time: Option<SystemTime>,
}

/// The lifetime if a reply states none: short enough to be safe, long enough not to cause a storm.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// The longest lifetime that is believed, in seconds: the most that Okta can be set to.
const MAX_LIFETIME_S: f64 = 86_400.0;

/// Parses a complete reply. Any 2xx with a usable token is a grant, and an error in the body is one at any status.
pub(super) fn parse(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    request: &TokenRequestContext<'_>,
) -> Result<Grant, FetchError> {
    let date = headers.get(DATE).and_then(|date| date.to_str().ok());
    let server_time = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let parsed = match (
        request.not_the_service(status, headers, body),
        ErrorReply::parse(body),
    ) {
        (Some(error), _) => Err(error),
        (None, Some(reply)) => Err(request.refusal(status, reply)),
        (None, None) if status.is_success() => parse_grant(status, body, request.upstream.token_url.host())
            .map_err(|problem| FetchErrorKind::Malformed.error(problem)),
        (None, None) => Err(request.refusal(status, ErrorReply::default())),
    };
    let now = server_time.unwrap_or_else(SystemTime::now);
    let retry_after = failure::retry_after(headers, now).unwrap_or_default();
    let failed = |error| FetchError {
        retry_after,
        server_time,
        ..error
    };
    parsed.map(|grant| Grant { server_time, ..grant }).map_err(failed)
}

fn parse_grant(status: StatusCode, body: &[u8], host: &str) -> Result<Grant, Problem> {
    #[derive(Deserialize)]
    struct Reply<'a> {
        #[serde(borrow)]
        access_token: Option<Cow<'a, str>>,
        token_type: Option<String>,
        #[serde(default)]
        expires_in: Value,
    }
    if body.trim_ascii().is_empty() {
        return Err(problems::response_empty(host, status.as_u16()));
    }
    let unusable = |reason: &str| problems::response_unusable(host, reason);
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(|error| match kind_of(body) {
        Some(kind) => problems::response_not_json(host, kind),
        None if error.is_eof() => unusable("its JSON ends early"),
        None => unusable("its JSON is not that of RFC 6749"),
    })?;
    let token = reply
        .access_token
        .ok_or_else(|| unusable("access_token is missing"))?;
    let is_bearer = |kind: String| kind.eq_ignore_ascii_case("bearer");
    if !reply.token_type.is_none_or(is_bearer) {
        return Err(unusable("token_type is not Bearer"));
    }
    if !is_token68(&token) {
        return Err(unusable(
            "access_token holds characters that no bearer token may have (RFC 6750 §2.1)",
        ));
    }
    Ok(Grant {
        authorization: sensitive(Zeroizing::new(["Bearer ", &token].concat())),
        lifetime: lifetime(&reply.expires_in)
            .ok_or_else(|| unusable("expires_in is not a number of seconds"))?,
        server_time: None,
    })
}

/// What a body is that is no JSON object.
fn kind_of(body: &[u8]) -> Option<&'static str> {
    match body.trim_ascii_start() {
        [b'{' | b'[' | b'"', ..] | b"null" | b"true" | b"false" => None,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("text in UTF-16"),
        [0x50, 0x4b, ..] => Some("a zip archive"),
        [b'<', ..] => Some("XML"),
        text if text.starts_with(b"access_token=") || text.starts_with(b"error=") => Some("a form"),
        text if std::str::from_utf8(text).is_ok() => Some("plain text"),
        _ => Some("binary data"),
    }
}

/// `expires_in` may be a number or a string of digits. Without it, the default applies; over a day counts as a day,
/// a negative number as zero, and parts of a second do not count.
fn lifetime(expires_in: &Value) -> Option<Duration> {
    let seconds: f64 = match expires_in {
        Value::Null => return Some(DEFAULT_LIFETIME),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let seconds = Some(seconds).filter(|seconds| seconds.is_finite())?;
    let seconds = Duration::from_secs_f64(seconds.clamp(0.0, MAX_LIFETIME_S)).as_secs();
    Some(Duration::from_secs(seconds))
}

/// Whether it is a `token68` (RFC 9110 §11.2), which every bearer token is.
fn is_token68(token: &str) -> bool {
    let bare = token.trim_end_matches('=');
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !bare.is_empty() && bare.bytes().all(is_allowed)
}

#[cfg(test)]
impl Grant {
    pub(super) fn for_tests(token: &str, lifetime: Duration) -> Self {
        Self {
            authorization: HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
            lifetime,
            server_time: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::refusal::tests::{response, upstream};
    use super::*;

    fn parsed(body: &str) -> Result<Grant, FetchError> {
        response(&upstream(""), 200, &[], body.as_bytes())
    }

    fn lifetime_of(expires_in: &str) -> Option<u64> {
        parsed(&format!(
            r#"{{"access_token":"t","token_type":"Bearer","expires_in":{expires_in}}}"#
        ))
        .ok()
        .map(|grant| grant.lifetime.as_secs())
    }

    #[test]
    fn a_good_reply_is_a_sensitive_bearer_header_with_its_lifetime() {
        let grant =
            parsed(r#"{"access_token":"a.b-c_d~e+f/g==","token_type":"bearer","expires_in":3599}"#).unwrap();
        assert_eq!(grant.authorization, "Bearer a.b-c_d~e+f/g==");
        assert!(grant.authorization.is_sensitive() && grant.lifetime.as_secs() == 3599);
    }

    #[test]
    fn every_unusual_lifetime_has_a_defined_meaning() {
        assert_eq!(lifetime_of("null"), Some(300));
        assert_eq!(lifetime_of("\"1800\""), Some(1800));
        assert_eq!(lifetime_of("30"), Some(30));
        assert_eq!(lifetime_of("1e12"), Some(86_400));
        for over in ["0", "\"0\"", "-1", "0.5"] {
            assert_eq!(lifetime_of(over), Some(0), "{over}");
        }
        for malformed in ["\"\"", "\"soon\"", "\"inf\"", "\"-inf\"", "\"NaN\"", "[]", "true"] {
            assert_eq!(lifetime_of(malformed), None, "{malformed}");
        }
        assert_eq!(
            parsed(r#"{"access_token":"t"}"#).unwrap().lifetime,
            DEFAULT_LIFETIME
        );
    }

    #[test]
    fn a_reply_without_a_usable_token_is_malformed() {
        for body in [
            "",
            "<html>sign in</html>",
            r#"{"access_token":"t""#,
            "{}",
            "[]",
            "null",
            r#"{"access_token":""}"#,
            r#"{"access_token":"a b"}"#,
            "{\"access_token\":\"a\\r\\nX: y\"}",
            r#"{"access_token":"tökén"}"#,
            r#"{"access_token":"t","token_type":"mac"}"#,
            r#"{"access_token":"=="}"#,
        ] {
            assert_eq!(
                parsed(body).unwrap_err().kind,
                FetchErrorKind::Malformed,
                "{body}"
            );
        }
    }

    #[test]
    fn any_2xx_with_a_bearer_is_a_grant() {
        for status in [200, 201, 203] {
            for body in ["{\"access_token\":\"t\"}", "\u{feff}{\"access_token\":\"t\"}"] {
                assert!(
                    response(&upstream(""), status, &[], body.as_bytes()).is_ok(),
                    "{status} {body}"
                );
            }
        }
    }

    #[test]
    fn grants_and_failures_carry_the_servers_clock() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let expected = Some(httpdate::parse_http_date(date).unwrap());
        let granted = response(&upstream(""), 200, &[("date", date)], br#"{"access_token":"t"}"#);
        assert_eq!(granted.unwrap().server_time, expected);
        let failed = response(&upstream(""), 502, &[("date", date)], b"");
        assert_eq!(failed.unwrap_err().server_time, expected);
    }

    proptest! {
        #[test]
        fn no_reply_makes_the_parser_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = response(&upstream(""), status, &[], &body);
        }
    }
}
