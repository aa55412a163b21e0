//! What must hold for every reply of an identity service: for the fuzzer, and for replays of its findings.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::SecretString;

use super::refusal::TokenRequestContext;
use super::response;
use super::secret_encoding::SecretMatcher;
use crate::config::{Config, Upstream};

const SECRET: &str = "hunter2+%";
static UPSTREAM: LazyLock<Upstream> = LazyLock::new(|| {
    let text = "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";
    let config = Config::parse(text, "f", []);
    config.expect("the configuration is valid").upstreams.remove(0)
});

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
    let request = TokenRequestContext {
        upstream: &UPSTREAM,
        client_id: "id",
        secret: SecretMatcher::new(&SecretString::from(SECRET)),
    };
    match response::parse(status, &headers, body, &request) {
        Ok(grant) => {
            assert!(status.is_success() && grant.authorization.is_sensitive());
            let token = grant
                .authorization
                .as_bytes()
                .strip_prefix(b"Bearer ")
                .expect("it is a bearer token");
            assert!(!token.is_empty() && token.iter().all(u8::is_ascii_graphic));
            assert!(grant.lifetime.is_zero() || (1..=86_400).contains(&grant.lifetime.as_secs()));
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains(['\n', '\r']) && !text.contains(SECRET));
            assert!(text.len() < 2000);
        }
    }
}
