//! Why a fetch failed: a kind, which decides when to try again, and a message, which says what to do.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;

use super::secret_encoding::SecretMatcher;

/// Why a fetch failed. The message says what to do and holds no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct FetchError {
    /// The kind of failure.
    pub kind: FetchErrorKind,
    /// What failed, why, and what to do.
    pub message: String,
    /// The wait that the server asked for, or zero.
    pub retry_after: Duration,
    /// The server's clock, if it responded.
    pub server_time: Option<SystemTime>,
}

/// Kinds of failure: transient ones, misconfigurations, and tokens that are rejected or expire at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchErrorKind {
    /// The identity service cannot be reached, or the connection broke.
    Network,
    /// It took too long.
    Timeout,
    /// It responded 408, 425 or 5xx.
    Unavailable,
    /// It responded 429.
    RateLimited,
    /// Its response is no token response.
    Malformed,
    /// It refused the credentials.
    Refused,
    /// The credentials cannot be read on this machine.
    Secret,
    /// The upstream rejects the tokens that it issues.
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

    /// Whether an operator must correct something first.
    #[must_use]
    pub fn is_misconfiguration(self) -> bool {
        matches!(self, Self::Refused | Self::Secret)
    }

    /// An error of this kind.
    pub(super) fn error(self, message: impl Into<String>) -> FetchError {
        FetchError {
            kind: self,
            message: message.into(),
            retry_after: Duration::ZERO,
            server_time: None,
        }
    }
}

/// Parses a reply whose status is not 200.
///
/// A gateway's HTML page says nothing about the credentials, whatever its status; it is a transient failure, as 5xx is.
pub(super) fn parse(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    secret: &SecretMatcher,
) -> FetchError {
    use FetchErrorKind::{Malformed, RateLimited, Unavailable};
    let code = status.as_u16();
    let (kind, reason) = match code {
        429 => (RateLimited, "it limits token requests".into()),
        408 | 425 | 500..=599 => (Unavailable, "it is temporarily unavailable".into()),
        300..=399 => (Malformed, REDIRECT.into()),
        400..=499 if is_html(headers, body) => (Malformed, HTML.into()),
        400..=499 => parse_refusal(body, secret),
        _ => (Malformed, "that is no token; check token_url".into()),
    };
    kind.error(format!("the identity service responded {code}: {reason}"))
}

const REDIRECT: &str = "it redirects, which is never followed; check token_url";
const HTML: &str = "it is an HTML page, as from a gateway or proxy in front of it; check token_url and proxy";

fn is_html(headers: &HeaderMap, body: &[u8]) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with(b"text/html"))
        || body.trim_ascii_start().starts_with(b"<")
}

/// Parses both formats of an error reply: RFC 6749 §5.2, and Okta's own. Texts that contain the secret are left out.
fn parse_refusal(body: &[u8], secret: &SecretMatcher) -> (FetchErrorKind, Cow<'static, str>) {
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
    let code = reply
        .error
        .or(reply.error_code)
        .unwrap_or_else(|| "no error code".to_owned());
    let description = reply.description.or(reply.error_summary);
    // RFC 6749 defines these for redirects, which cannot carry a 503; some servers use them here too.
    let is_transient = matches!(code.as_str(), "server_error" | "temporarily_unavailable");
    let mut details: Vec<_> = [Some(code), description].into_iter().flatten().collect();
    details.retain(|text| !secret.is_in(text));
    let details = printable(&details.join(": "));
    if is_transient {
        let reason = format!("it is temporarily unavailable ({details})");
        return (FetchErrorKind::Unavailable, reason.into());
    }
    let reason = format!(
        "it refuses the credentials ({details}); check client_id, client_secret and client_auth, and that they were \
         issued for this token_url: stage and production have different ones, and new ones are refused for some minutes"
    );
    (FetchErrorKind::Refused, reason.into())
}

/// A text from the identity service, made safe for the log: one line, bounded, visible ASCII.
fn printable(text: &str) -> String {
    let is_visible = |c: char| c.is_ascii_graphic() || c == ' ';
    let visible = text.chars().map(|c| if is_visible(c) { c } else { '?' });
    visible.take(400).collect()
}

/// The wait that the server asks for: `Retry-After` (seconds or a date) or Okta's `X-Rate-Limit-Reset` (UTC epoch
/// seconds). `now` is the server's time, if it states it.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |value: Option<&HeaderValue>| Some(value?.to_str().ok()?.trim().to_owned());
    let until = if let Some(value) = text(headers.get(RETRY_AFTER)) {
        match value.parse() {
            Ok(seconds) => return Some(Duration::from_secs(seconds)),
            Err(_) => httpdate::parse_http_date(&value).ok()?,
        }
    } else {
        let reset: u64 = text(headers.get("x-rate-limit-reset"))?.parse().ok()?;
        UNIX_EPOCH + Duration::from_secs(reset.min(u64::from(u32::MAX)))
    };
    until.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn matcher() -> SecretMatcher {
        SecretMatcher::new(&SecretString::from("id"), &SecretString::from("hunter2"))
    }

    fn parsed(status: u16, kind: &'static str, body: &str) -> FetchError {
        parse(
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]),
            body.as_bytes(),
            &matcher(),
        )
    }

    #[test]
    fn both_formats_of_a_refusal_are_reported_with_the_fix() {
        for body in [
            r#"{"error":"invalid_client","error_description":"The client secret supplied is invalid."}"#,
            r#"{"errorCode":"invalid_client","errorSummary":"Invalid value for 'client_id' parameter.","errorCauses":[]}"#,
        ] {
            for status in [400, 401] {
                let error = parsed(status, "application/json", body);
                assert_eq!(error.kind, FetchErrorKind::Refused);
                assert!(error.message.contains("(invalid_client: ") && error.message.contains("token_url"));
            }
        }
        assert_eq!(
            parsed(404, "application/json", "{}").kind,
            FetchErrorKind::Refused
        );
        assert_eq!(parsed(401, "text/plain", "").kind, FetchErrorKind::Refused);
    }

    #[test]
    fn an_html_page_says_nothing_about_the_credentials() {
        for status in [400, 401, 403, 404] {
            for kind in ["text/html;charset=utf-8", "text/plain"] {
                let error = parsed(status, kind, " <html>blocked</html>");
                assert_eq!(error.kind, FetchErrorKind::Malformed, "{status}");
                assert!(error.message.contains("proxy"), "{}", error.message);
            }
        }
    }

    #[test]
    fn texts_that_contain_the_secret_are_left_out() {
        let error = parsed(
            401,
            "application/json",
            r#"{"error":"invalid_client","error_description":"HUNTER2 is wrong"}"#,
        );
        assert!(error.message.contains("(invalid_client);"), "{}", error.message);
    }

    #[test]
    fn transient_failures_have_kinds_that_are_retried() {
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
            assert_eq!(parsed(status, "text/plain", "").kind, kind, "{status}");
        }
        let busy = parsed(400, "application/json", r#"{"error":"temporarily_unavailable"}"#);
        assert_eq!(busy.kind, FetchErrorKind::Unavailable);
    }

    #[test]
    fn a_wait_is_read_from_seconds_a_date_or_a_rate_limit_reset() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        let wait = |name: &'static str, value: &'static str| {
            retry_after(
                &HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]),
                now,
            )
        };
        assert_eq!(wait("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(
            wait("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            wait("x-rate-limit-reset", "784111807"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(wait("x-rate-limit-reset", "1"), None);
    }
}
