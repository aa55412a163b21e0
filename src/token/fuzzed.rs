//! What must hold for every reply of an identity service: for the fuzzer, and for replays of its findings.

use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::SecretString;

use super::response;
use super::secret_encoding::SecretMatcher;

const SECRET: &str = "hunter2+%";

/// The first bytes are the status and `Retry-After`, the rest is the body. A grant is a bearer token of visible ASCII
/// with a lifetime of zero or of a second to a day; a failure is one line without the secret.
pub fn reply(data: &[u8]) {
    let [high, low, wait, body @ ..] = data else {
        return;
    };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes([*high, *low])) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(http::header::RETRY_AFTER, HeaderValue::from(u16::from(*wait)));
    let matcher = SecretMatcher::new(&SecretString::from("id"), &SecretString::from(SECRET));
    match response::parse(status, &headers, body, &matcher) {
        Ok(grant) => {
            assert!(status == StatusCode::OK && grant.authorization.is_sensitive());
            let token = grant
                .authorization
                .as_bytes()
                .strip_prefix(b"Bearer ")
                .expect("it is a bearer token");
            assert!(!token.is_empty() && token.iter().all(u8::is_ascii_graphic));
            assert!(grant.lifetime.is_zero() || (1..=86_400).contains(&grant.lifetime.as_secs()));
        }
        Err(error) => {
            assert!(!error.message.contains(['\n', '\r']) && !error.message.contains(SECRET));
            assert!(error.message.len() < 2000);
        }
    }
}
