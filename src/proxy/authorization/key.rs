//! Caller keys: HTTP Basic credentials (RFC 7617), or the key alone in its own field.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode};
use subtle::ConstantTimeEq;

use super::super::forward::headers::CALLER_KEY;
use crate::config::{CallerKey, CallerKeys};
use crate::problems::request;
use crate::server::ProblemResponse;

/// The name of the caller's key, or the refusal of a request without a valid one.
pub(super) fn authenticate(keys: &CallerKeys, headers: &HeaderMap) -> Result<Arc<str>, ProblemResponse> {
    if let Some(key) = find_key(keys, headers) {
        return Ok(key.name().clone());
    }
    let problem = if headers.contains_key(AUTHORIZATION) || headers.contains_key(CALLER_KEY) {
        request::key_refused()
    } else {
        request::key_missing()
    };
    Err(ProblemResponse::denied(StatusCode::UNAUTHORIZED, problem))
}

/// The key that a request carries. Compares with every key, each in constant time, so that the time taken reveals
/// nothing.
fn find_key<'a>(keys: &'a CallerKeys, headers: &HeaderMap) -> Option<&'a CallerKey> {
    let basic = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("basic").then_some(())?;
        BASE64_STANDARD.decode(encoded.trim()).ok()
    });
    let bare = headers.get(CALLER_KEY).map(HeaderValue::as_bytes);
    let mut found = None;
    for key in keys.iter() {
        let is_pair = basic.as_ref().is_some_and(|given| given.ct_eq(key.pair()).into());
        let is_key = bare.is_some_and(|given| given.ct_eq(key.key()).into());
        if is_pair | is_key {
            found = Some(key);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_text_is_not_a_key() {
        let keys = CallerKeys::parse(&secrecy::SecretString::from("a:b".to_owned())).unwrap();
        for name in [CALLER_KEY, AUTHORIZATION] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_bytes(b"\xff").unwrap())]);
            assert!(find_key(&keys, &headers).is_none());
        }
    }
}
