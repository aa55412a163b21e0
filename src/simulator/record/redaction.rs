//! Redaction of recorded requests: the control API shows no secrets and no tokens.

use bytes::Bytes;

use super::Seen;
use crate::simulator::cisco::endpoint::Endpoint;

const REDACTED: &str = "[redacted]";
const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];
/// Words in the name of a query parameter that holds a secret.
const SECRET_WORDS: [&str; 5] = ["secret", "token", "password", "key", "assertion"];

/// The entry with credentials and tokens replaced.
pub(crate) fn redacted(mut seen: Seen) -> Seen {
    seen.target = target(&seen.target);
    headers(&mut seen.headers);
    if seen.endpoint == Endpoint::Token {
        // A short secret could be guessed from the hash.
        if seen.body_bytes > 0 {
            seen.body_sha256 = seen.body_sha256.map(|_| REDACTED.to_owned());
        }
        seen.body = token_request(&seen.body);
    }
    seen
}

/// Replaces the secret values in header lines.
pub(crate) fn headers(lines: &mut [(String, String)]) {
    for (name, value) in lines {
        if SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let scheme = value.split_once(' ').map_or("", |(scheme, _)| scheme);
            // Only a known scheme is shown: the first word could be the secret itself.
            let is_known = ["basic", "bearer"].contains(&scheme.to_ascii_lowercase().as_str());
            *value = if is_known {
                format!("{scheme} {REDACTED}")
            } else {
                REDACTED.to_owned()
            };
        }
    }
}

fn target(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let parameters: Vec<_> = query.split('&').map(parameter).collect();
    format!("{path}?{}", parameters.join("&"))
}

fn parameter(parameter: &str) -> String {
    let decoded = form_urlencoded::parse(parameter.as_bytes()).next();
    let decoded = decoded.map_or(String::new(), |(name, _)| name.to_ascii_lowercase());
    match parameter.split_once('=') {
        Some((name, _)) if SECRET_WORDS.iter().any(|word| decoded.contains(word)) => {
            format!("{name}={REDACTED}")
        }
        _ => parameter.to_owned(),
    }
}

/// The parameters that are known to be open: in a body of another shape, JSON for instance, a secret could be anywhere.
fn token_request(body: &[u8]) -> Bytes {
    let parameters = form_urlencoded::parse(body).map(|(name, value)| match &*name {
        "grant_type" | "client_id" | "scope" => format!("{name}={value}"),
        _ => REDACTED.to_owned(),
    });
    parameters.collect::<Vec<_>>().join("&").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_scheme_of_an_authorization_is_shown() {
        for (name, value, shown) in [
            ("Authorization", "Bearer abc", "Bearer [redacted]"),
            ("AUTHORIZATION", "basic abc", "basic [redacted]"),
            ("authorization", "s3cret abc", REDACTED),
            ("authorization", "s3cret", REDACTED),
            ("Accept", "a b", "a b"),
        ] {
            let mut lines = [(name.to_owned(), value.to_owned())];
            headers(&mut lines);
            assert_eq!(lines[0].1, shown);
        }
    }

    #[test]
    fn a_secret_in_a_target_is_redacted_however_its_name_is_encoded() {
        assert_eq!(
            target("/t?grant_type=a&client_secret=x%2By&client%5Fsecret=z&flag"),
            "/t?grant_type=a&client_secret=[redacted]&client%5Fsecret=[redacted]&flag"
        );
        assert_eq!(target("/t"), "/t");
    }
}
