//! Why a fetch brought no token: a kind that says when to try again, and words that say what to mend.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use super::wiped::Spellings;
use crate::config::{OutboundError, SecretError};

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
    /// What the server's clock says, where it answered.
    pub server_time: Option<SystemTime>,
}

/// Kinds of failure: those that pass, those that somebody has to mend, and tokens that are of no use.
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
    /// Tokens expire as soon as they are issued: this machine's clock jumps.
    Clock,
}

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
            Self::Clock => "clock",
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
            server_time: None,
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

/// Judges a reply that is not 200. Should it repeat a secret in its error, its words are left out of
/// ours.
///
/// A gateway's HTML says nothing of the credentials, whatever its status: it passes, as 5xx does.
pub(super) fn judge(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    spellings: &Spellings,
    now: SystemTime,
) -> FetchError {
    let code = status.as_u16();
    let (kind, message) = match code {
        429 => (
            FetchErrorKind::RateLimited,
            "the identity service is limiting token requests (429)".to_owned(),
        ),
        408 | 425 | 500..=599 => (
            FetchErrorKind::Unavailable,
            format!("the identity service answered {code}"),
        ),
        300..=399 => (
            FetchErrorKind::Malformed,
            format!(
                "the identity service answered with a redirect ({code}), which is never followed; check token_url"
            ),
        ),
        400..=499 if is_html(headers, body) => (
            FetchErrorKind::Malformed,
            format!(
                "a page of HTML came in place of the identity service's answer ({code}): something in front of it \
                 refuses; check token_url and proxy"
            ),
        ),
        400..=499 => refusal(status, body, spellings),
        _ => (
            FetchErrorKind::Malformed,
            format!("the identity service answered {code}, which is no token"),
        ),
    };
    FetchError {
        retry_after: retry_after(headers, now),
        ..FetchError::new(kind, message)
    }
}

fn is_html(headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"text/html"))
        || body.trim_ascii_start().starts_with(b"<")
}

/// Both shapes of an error reply: RFC 6749 §5.2, and Okta's own.
fn refusal(status: StatusCode, body: &[u8], spellings: &Spellings) -> (FetchErrorKind, String) {
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
    // RFC 6749 has these for redirects, which cannot carry a 503; some servers answer so here too.
    let passes = matches!(code.as_deref(), Some("server_error" | "temporarily_unavailable"));
    let words = reply.description.or(reply.error_summary);
    let said: Vec<String> = [code, words]
        .into_iter()
        .flatten()
        .filter(|text| !spellings.are_in(text))
        .map(|text| printable(&text))
        .collect();
    let said = format!(
        "{}{}{}",
        status.as_u16(),
        if said.is_empty() { "" } else { " " },
        said.join(": ")
    );
    if passes {
        let message = format!("the identity service answered that it cannot now ({said})");
        return (FetchErrorKind::Unavailable, message);
    }
    let message = format!(
        "the identity service refuses the credentials ({said}); check client_id, client_secret and client_auth, and \
         that they were issued for this token_url: stage and production have different ones, and new ones are \
         refused for some minutes"
    );
    (FetchErrorKind::Refused, message)
}

/// Somebody else's text in our log: one line, bounded, visible ASCII.
fn printable(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

/// What `Retry-After` (seconds or a date) or Okta's `X-Rate-Limit-Reset` (UTC epoch seconds) asks,
/// `now` being the server's own time where it tells it.
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
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn spellings() -> Spellings {
        Spellings::of(&SecretString::from("id"), &SecretString::from("hunter2"))
    }

    fn judged(status: u16, kind: &'static str, body: &str) -> FetchError {
        judge(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]),
            body.as_bytes(),
            &spellings(),
            SystemTime::now(),
        )
    }

    #[test]
    fn both_shapes_of_a_refusal_are_told_with_the_mend() {
        for body in [
            r#"{"error":"invalid_client","error_description":"The client secret supplied is invalid."}"#,
            r#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id' parameter.","errorCauses":[]}"#,
        ] {
            for status in [400, 401] {
                let error = judged(status, "application/json", body);
                assert_eq!(error.kind, FetchErrorKind::Refused);
                assert!(error.message.contains(" invalid_client: ") && error.message.contains("token_url"));
            }
        }
        assert_eq!(
            judged(404, "application/json", "{}").kind,
            FetchErrorKind::Refused
        );
        assert_eq!(judged(401, "text/plain", "").kind, FetchErrorKind::Refused);
    }

    #[test]
    fn a_page_of_html_says_nothing_of_the_credentials() {
        for status in [400, 401, 403, 404] {
            for kind in ["text/html;charset=utf-8", "text/plain"] {
                let error = judged(status, kind, " <html>blocked</html>");
                assert_eq!(error.kind, FetchErrorKind::Malformed, "{status}");
                assert!(error.message.contains("proxy"), "{}", error.message);
            }
        }
    }

    #[test]
    fn words_that_repeat_the_secret_are_left_out() {
        let error = judged(
            401,
            "application/json",
            r#"{"error":"invalid_client","error_description":"HUNTER2 is wrong"}"#,
        );
        assert!(
            error.message.contains("(401 invalid_client);"),
            "{}",
            error.message
        );
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
            (596, FetchErrorKind::Unavailable),
        ] {
            assert_eq!(judged(status, "text/plain", "").kind, kind, "{status}");
        }
        let busy = judged(400, "application/json", r#"{"error":"temporarily_unavailable"}"#);
        assert_eq!(busy.kind, FetchErrorKind::Unavailable);
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
}
