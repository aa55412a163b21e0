//! What an identity service answers: a grant, or a failure.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::DATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::Value;

use super::failure::{self, FetchError, FetchErrorKind};
use super::wiped::{Spellings, sensitive};

/// A token and how long it lives, out of a successful reply (RFC 6749 §5.1).
#[derive(Debug)]
pub struct Grant {
    /// `Bearer …`, marked sensitive; wiped when the last copy is dropped.
    pub authorization: HeaderValue,
    /// From the moment it was asked for. Zero where the token is over, or all but over: an identity service that
    /// returns the same token until it expires says so in its last second, and has its successor soon.
    pub lifetime: Duration,
    /// What the server's clock says.
    pub server_time: Option<SystemTime>,
}

/// A lifetime for replies that name none: short enough to be safe, long enough not to storm.
const UNSTATED: Duration = Duration::from_secs(300);
/// The longest lifetime that is believed: the most that Okta can be set to.
const LONGEST: f64 = 86_400.0;

/// Reads a whole reply. `expires_in` may be a number or digits; missing it counts as five minutes,
/// over a day as a day, under a second or negative as zero; no number is malformed.
pub(super) fn parse(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    spellings: &Spellings,
) -> Result<Grant, FetchError> {
    let server_time = headers
        .get(DATE)
        .and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let judged = if status == StatusCode::OK {
        grant(body).map_err(|why| {
            FetchError::new(
                FetchErrorKind::Malformed,
                format!("the identity service answered 200 without a usable token: {why}"),
            )
        })
    } else {
        let now = server_time.unwrap_or_else(SystemTime::now);
        Err(failure::judge(status, headers, body, spellings, now))
    };
    match judged {
        Ok(grant) => Ok(Grant { server_time, ..grant }),
        Err(error) => Err(FetchError { server_time, ..error }),
    }
}

fn grant(body: &[u8]) -> Result<Grant, &'static str> {
    #[derive(Deserialize)]
    struct Reply<'a> {
        #[serde(borrow)]
        access_token: Option<Cow<'a, str>>,
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
    let lifetime = lifetime(&expires_in).ok_or("expires_in is not a number of seconds")?;
    let authorization = Bytes::from_owner(Zeroizing::new(["Bearer ", &token].concat().into_bytes()));
    Ok(Grant {
        authorization: sensitive(authorization),
        lifetime,
        server_time: None,
    })
}

fn lifetime(expires_in: &Value) -> Option<Duration> {
    let seconds: f64 = match expires_in {
        Value::Null => return Some(UNSTATED),
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if !seconds.is_finite() {
        return None;
    }
    Some(if seconds < 1.0 {
        Duration::ZERO
    } else {
        Duration::from_secs_f64(seconds.min(LONGEST))
    })
}

/// `token68` of RFC 9110 §11.2: what a bearer may consist of.
fn is_token68(token: &str) -> bool {
    let bare = token.trim_end_matches('=');
    !bare.is_empty()
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
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
    use secrecy::SecretString;

    use super::*;

    fn spellings() -> Spellings {
        Spellings::of(&SecretString::from("id"), &SecretString::from("hunter2"))
    }

    fn read(body: &str) -> Result<Grant, FetchError> {
        parse(StatusCode::OK, &HeaderMap::new(), body.as_bytes(), &spellings())
    }

    fn lifetime_of(expires_in: &str) -> Option<u64> {
        read(&format!(
            r#"{{"access_token":"t","token_type":"Bearer","expires_in":{expires_in}}}"#
        ))
        .ok()
        .map(|grant| grant.lifetime.as_secs())
    }

    #[test]
    fn a_good_reply_is_a_sensitive_bearer_with_its_lifetime() {
        let grant =
            read(r#"{"access_token":"a.b-c_d~e+f/g==","token_type":"bearer","expires_in":3599}"#).unwrap();
        assert_eq!(grant.authorization, "Bearer a.b-c_d~e+f/g==");
        assert!(grant.authorization.is_sensitive() && grant.lifetime.as_secs() == 3599);
    }

    #[test]
    fn every_odd_lifetime_has_its_meaning() {
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
        assert_eq!(read(r#"{"access_token":"t"}"#).unwrap().lifetime, UNSTATED);
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
            assert_eq!(read(body).unwrap_err().kind, FetchErrorKind::Malformed, "{body}");
        }
    }

    #[test]
    fn the_servers_clock_is_told_with_grants_and_failures() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static(date))]);
        let expected = Some(httpdate::parse_http_date(date).unwrap());
        let granted = parse(StatusCode::OK, &headers, br#"{"access_token":"t"}"#, &spellings());
        assert_eq!(granted.unwrap().server_time, expected);
        let failed = parse(StatusCode::BAD_GATEWAY, &headers, b"", &spellings());
        assert_eq!(failed.unwrap_err().server_time, expected);
    }

    proptest! {
        #[test]
        fn no_reply_makes_the_reader_panic(status in 100_u16..600, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), &body, &spellings());
        }
    }
}
