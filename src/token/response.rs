//! What an identity service answers: a grant, or a failure whose kind says what to do about it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::config::{OutboundError, SecretError};

/// A token and how long it lives, out of a successful reply (RFC 6749 §5.1).
#[derive(Debug)]
pub struct Grant {
    /// `Bearer …`, marked sensitive.
    pub authorization: HeaderValue,
    /// From the moment it was asked for.
    pub lifetime: Duration,
}

/// Why a fetch brought no token. The text names the mend and holds no secret.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// What kind of failure it is.
    pub kind: FetchErrorKind,
    /// What happened.
    pub message: String,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// Kinds of failure, each with its own rhythm of trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The identity service cannot be reached, or broke off.
    Network,
    /// It took too long.
    Timeout,
    /// It answered that it cannot now: 408, 425, 5xx.
    Unavailable,
    /// It answered 429.
    RateLimited,
    /// It answered with something that is no token.
    Malformed,
    /// It refuses the credentials.
    Refused,
    /// The credentials cannot be read here.
    Secret,
    /// It issues tokens that the upstream refuses at once.
    Rejected,
}

/// A lifetime for replies that name none: short enough to be safe, long enough not to storm.
const UNSTATED: Duration = Duration::from_secs(300);
/// The longest lifetime that is believed: the most that Okta can be set to.
const LONGEST: f64 = 86_400.0;

impl FetchErrorKind {
    /// The name in status, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Secret => "secret",
            Self::Rejected => "rejected",
        }
    }

    /// Whether somebody has to mend something before it can work.
    #[must_use]
    pub fn is_misconfiguration(self) -> bool {
        matches!(self, Self::Refused | Self::Secret)
    }
}

impl FetchError {
    pub(super) fn new(kind: FetchErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }
}

impl From<SecretError> for FetchError {
    fn from(error: SecretError) -> Self {
        let message = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::new(FetchErrorKind::Secret, message)
    }
}

impl From<OutboundError> for FetchError {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Secret(error) => error.into(),
            OutboundError::Form => Self::new(FetchErrorKind::Secret, error.to_string()),
        }
    }
}

/// Reads a whole reply. `expires_in` may be a number or digits; missing it counts as five minutes,
/// over a day as a day; zero, negative or no number is malformed. Should the reply repeat one of
/// `secrets` in its error, its words are left out of ours.
pub(super) fn parse(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[String],
) -> Result<Grant, FetchError> {
    if status == StatusCode::OK {
        return grant(body).map_err(|why| {
            FetchError::new(
                FetchErrorKind::Malformed,
                format!("the identity service answered 200 without a usable token: {why}"),
            )
        });
    }
    let (kind, message) = match status.as_u16() {
        429 => (
            FetchErrorKind::RateLimited,
            "the identity service is limiting token requests (429)".to_owned(),
        ),
        408 | 425 | 500..=599 => (
            FetchErrorKind::Unavailable,
            format!("the identity service answered {}", status.as_u16()),
        ),
        300..=399 => (
            FetchErrorKind::Malformed,
            format!(
                "the identity service answered with a redirect ({}), which is never followed; check token_url",
                status.as_u16()
            ),
        ),
        400..=499 => (FetchErrorKind::Refused, refusal(status, body, secrets)),
        other => (
            FetchErrorKind::Malformed,
            format!("the identity service answered {other}, which is no token"),
        ),
    };
    Err(FetchError {
        kind,
        message,
        retry_after: retry_after(headers, SystemTime::now()),
    })
}

fn grant(body: &[u8]) -> Result<Grant, &'static str> {
    #[derive(Deserialize)]
    struct Reply {
        access_token: Option<String>,
        token_type: Option<String>,
        #[serde(default)]
        expires_in: Value,
    }
    if body.is_empty() {
        return Err("the body is empty");
    }
    let Reply {
        access_token,
        token_type,
        expires_in,
    } = serde_json::from_slice(body).map_err(|_| "the body is not the JSON of RFC 6749")?;
    let token = access_token.ok_or("access_token is missing")?;
    if token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err("token_type is not Bearer");
    }
    if !is_token68(&token) {
        return Err("access_token holds characters that no bearer has (RFC 6750 §2.1)");
    }
    let lifetime = lifetime(&expires_in).ok_or("expires_in is not a positive number of seconds")?;
    let mut authorization =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "access_token is no header value")?;
    authorization.set_sensitive(true);
    Ok(Grant {
        authorization,
        lifetime,
    })
}

fn lifetime(expires_in: &Value) -> Option<Duration> {
    let seconds = match expires_in {
        Value::Null => return Some(UNSTATED),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    (seconds >= 1.0).then(|| Duration::from_secs_f64(seconds.min(LONGEST)))
}

/// `token68` of RFC 9110 §11.2: what a bearer may consist of.
fn is_token68(token: &str) -> bool {
    let bare = token.trim_end_matches('=');
    !bare.is_empty()
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// Both shapes of an error reply: RFC 6749 §5.2, and Okta's own.
fn refusal(status: StatusCode, body: &[u8], secrets: &[String]) -> String {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Reply {
        error: Option<String>,
        #[serde(rename = "error_description")]
        description: Option<String>,
        error_code: Option<String>,
        error_summary: Option<String>,
    }
    let reply: Reply = serde_json::from_slice(body).unwrap_or_default();
    let code = reply.error.or(reply.error_code);
    let words = reply.description.or(reply.error_summary);
    let said: Vec<String> = [code, words]
        .into_iter()
        .flatten()
        .filter(|text| !repeats(text, secrets))
        .map(|text| printable(&text))
        .collect();
    format!(
        "the identity service refuses the credentials ({}{}{}); check client_id, client_secret and client_auth, and \
         that they were issued for this token_url: stage and production have different ones, and new ones are \
         refused for some minutes",
        status.as_u16(),
        if said.is_empty() { "" } else { " " },
        said.join(": "),
    )
}

/// Whether a text holds a secret, as it is or percent-decoded; encoders differ in what they leave
/// alone, and in whether a "+" is a space.
fn repeats(text: &str, secrets: &[String]) -> bool {
    let decoded = |text: &str| -> String {
        let one = text.replace('&', "%26").replace('=', "%3D");
        form_urlencoded::parse(one.as_bytes())
            .map(|(whole, _)| whole)
            .collect()
    };
    let texts = [text.to_owned(), decoded(text), decoded(&text.replace('+', "%2B"))];
    let texts = texts.map(|text| text.to_ascii_lowercase());
    secrets.iter().any(|secret| {
        let secret = secret.to_ascii_lowercase();
        texts.iter().any(|text| text.contains(&secret))
    })
}

/// Somebody else's text in our log: one line, bounded, visible ASCII.
fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

/// What `Retry-After` (seconds or a date) or Okta's `X-Rate-Limit-Reset` (UTC epoch seconds) asks.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |value: Option<&HeaderValue>| {
        value
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
            .map(str::to_owned)
    };
    if let Some(asked) = text(headers.get(RETRY_AFTER)) {
        if let Ok(seconds) = asked.parse() {
            return Some(Duration::from_secs(seconds));
        }
        return httpdate::parse_http_date(&asked).ok()?.duration_since(now).ok();
    }
    let reset: u64 = text(headers.get("x-rate-limit-reset"))?.parse().ok()?;
    (UNIX_EPOCH + Duration::from_secs(reset.min(u64::from(u32::MAX))))
        .duration_since(now)
        .ok()
}

#[cfg(test)]
impl Grant {
    pub(super) fn for_tests(token: &str, lifetime: Duration) -> Self {
        Self {
            authorization: HeaderValue::try_from(format!("Bearer {token}")).unwrap(),
            lifetime,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(status: u16, body: &str) -> Result<Grant, FetchError> {
        parse(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
            &["hunter2".to_owned()],
        )
    }

    fn lifetime_of(expires_in: &str) -> Option<u64> {
        read(
            200,
            &format!(r#"{{"access_token":"t","token_type":"Bearer","expires_in":{expires_in}}}"#),
        )
        .ok()
        .map(|grant| grant.lifetime.as_secs())
    }

    #[test]
    fn a_good_reply_is_a_sensitive_bearer_with_its_lifetime() {
        let grant = read(
            200,
            r#"{"access_token":"a.b-c_d~e+f/g==","token_type":"bearer","expires_in":3599}"#,
        )
        .unwrap();
        assert_eq!(grant.authorization, "Bearer a.b-c_d~e+f/g==");
        assert!(grant.authorization.is_sensitive() && grant.lifetime.as_secs() == 3599);
    }

    #[test]
    fn every_odd_lifetime_has_its_meaning() {
        assert_eq!(lifetime_of("null"), Some(300));
        assert_eq!(lifetime_of("\"1800\""), Some(1800));
        assert_eq!(lifetime_of("30"), Some(30));
        assert_eq!(lifetime_of("1e12"), Some(86_400));
        for malformed in ["0", "-1", "\"\"", "\"soon\"", "[]", "true"] {
            assert_eq!(lifetime_of(malformed), None, "{malformed}");
        }
        assert_eq!(read(200, r#"{"access_token":"t"}"#).unwrap().lifetime, UNSTATED);
    }

    #[test]
    fn a_reply_that_is_no_token_is_malformed_whatever_its_form() {
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
                read(200, body).unwrap_err().kind,
                FetchErrorKind::Malformed,
                "{body}"
            );
        }
    }

    #[test]
    fn both_shapes_of_a_refusal_are_told_with_the_mend() {
        for body in [
            r#"{"error":"invalid_client","error_description":"The client secret supplied is invalid."}"#,
            r#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id' parameter.","errorCauses":[]}"#,
        ] {
            let error = read(401, body).unwrap_err();
            assert_eq!(error.kind, FetchErrorKind::Refused);
            assert!(error.message.contains("401 invalid_client: ") && error.message.contains("token_url"));
        }
        assert_eq!(read(400, "<html>").unwrap_err().kind, FetchErrorKind::Refused);
    }

    #[test]
    fn words_that_repeat_the_secret_are_left_out() {
        let error = read(
            401,
            r#"{"error":"invalid_client","error_description":"HUNTER2 is wrong"}"#,
        )
        .unwrap_err();
        assert!(
            error.message.contains("(401 invalid_client);"),
            "{}",
            error.message
        );
    }

    #[test]
    fn a_secret_is_recognised_however_it_is_encoded() {
        let secrets = ["s+c%e&t= \u{fc}".to_owned()];
        for repeated in [
            "s+c%e&t= \u{fc}",
            "s%2Bc%25e%26t%3D+%C3%BC",
            "s%2bc%25e%26t%3d%20%c3%bc",
            "s+c%25e&t=%20%C3%BC",
        ] {
            assert!(repeats(&format!("no {repeated}!"), &secrets), "{repeated}");
        }
        assert!(!repeats("The client secret supplied is invalid.", &secrets));
    }

    #[test]
    fn what_passes_is_tried_again() {
        for (status, kind) in [
            (429, FetchErrorKind::RateLimited),
            (408, FetchErrorKind::Unavailable),
            (425, FetchErrorKind::Unavailable),
            (500, FetchErrorKind::Unavailable),
            (503, FetchErrorKind::Unavailable),
            (302, FetchErrorKind::Malformed),
            (204, FetchErrorKind::Malformed),
        ] {
            assert_eq!(read(status, "").unwrap_err().kind, kind, "{status}");
        }
    }

    #[test]
    fn patience_is_asked_for_in_three_ways() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let asked = |name: &'static str, value: &'static str| {
            retry_after(
                &HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]),
                now,
            )
        };
        assert_eq!(asked("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(
            asked("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            asked("x-rate-limit-reset", "784111807"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(asked("x-rate-limit-reset", "1"), None);
    }

    proptest! {
        #[test]
        fn no_reply_makes_the_reader_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &body, &[]);
        }
    }
}
