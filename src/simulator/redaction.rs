//! What people may see of the record: everything but secrets and tokens.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::record::{Endpoint, Seen};

const HIDDEN: &str = "[redacted]";

/// Parameters of a token request that are no secret.
const OPEN_PARAMETERS: [&str; 3] = ["grant_type", "client_id", "scope"];
const SECRET_HEADERS: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// An entry as JSON, with credentials and tokens replaced.
pub(super) fn redacted(seen: &Seen) -> Value {
    json!({
        "sequence": seen.sequence,
        "connection": seen.connection,
        "endpoint": seen.endpoint,
        "method": seen.method,
        "target": target(&seen.target),
        "version": seen.version,
        "headers": headers(&seen.headers),
        "body": body(seen),
        "body_bytes": seen.body_bytes,
        "body_sha256": body_sha256(seen),
        "body_complete": seen.body_complete,
        "token_client": seen.token_client,
        "client_auth": seen.client_auth,
        "status": seen.status,
        "fault": seen.fault,
        "abandoned": seen.abandoned,
    })
}

/// Header lines, with the values of those that hold a secret replaced.
pub(super) fn headers(lines: &[(String, String)]) -> Vec<[String; 2]> {
    let lines = lines.iter();
    lines
        .map(|(name, value)| [name.clone(), header(name, value)])
        .collect()
}

fn header(name: &str, value: &str) -> String {
    if !SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return value.to_owned();
    }
    // Only a known scheme is shown: the first word could be the secret itself.
    match value.split_once(' ') {
        Some((scheme, _)) if ["basic", "bearer"].contains(&&*scheme.to_ascii_lowercase()) => {
            format!("{scheme} {HIDDEN}")
        }
        _ => HIDDEN.to_owned(),
    }
}

fn target(target: &str) -> String {
    match target.split_once('?') {
        Some((path, query)) => format!("{path}?{}", parameters(query)),
        None => target.to_owned(),
    }
}

/// The text with every value hidden that is not known to be open; other queries hold no secret's name.
fn parameters(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (at, piece) in text.split('&').enumerate() {
        let separator = if at == 0 { "" } else { "&" };
        let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
        let plain = form_urlencoded::parse(name.as_bytes())
            .next()
            .map(|(name, _)| name.to_ascii_lowercase())
            .unwrap_or_default();
        let secret = ["secret", "token", "password", "key", "assertion"]
            .iter()
            .any(|word| plain.contains(word));
        let value = if secret { HIDDEN } else { value };
        let equals = if piece.contains('=') { "=" } else { "" };
        write!(shown, "{separator}{name}{equals}{value}").expect("a String takes every write");
    }
    shown
}

/// A body as text. Of a token request's only what is known to be open is shown: a body in the wrong shape, JSON for
/// instance, would hold the secret where nobody looks for it.
fn body(seen: &Seen) -> Value {
    if seen.endpoint != Endpoint::Token {
        return String::from_utf8_lossy(&seen.body).into();
    }
    let shown: Vec<_> = form_urlencoded::parse(&seen.body)
        .filter(|(name, _)| OPEN_PARAMETERS.contains(&name.as_ref()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let hidden = form_urlencoded::parse(&seen.body).count() - shown.len();
    if hidden == 0 {
        shown.join("&").into()
    } else {
        format!("{} [{hidden} more redacted]", shown.join("&"))
            .trim_start()
            .into()
    }
}

/// A hash of a token request's body would let a short secret be guessed.
fn body_sha256(seen: &Seen) -> Value {
    match &seen.body_sha256 {
        Some(_) if seen.endpoint == Endpoint::Token && seen.body_bytes > 0 => HIDDEN.into(),
        Some(sha256) => sha256.clone().into(),
        None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_scheme_of_an_authorization_is_shown() {
        assert_eq!(header("Authorization", "Bearer abc"), "Bearer [redacted]");
        assert_eq!(header("AUTHORIZATION", "basic abc"), "basic [redacted]");
        assert_eq!(header("authorization", "s3cret abc"), HIDDEN);
        assert_eq!(header("authorization", "s3cret"), HIDDEN);
        assert_eq!(header("Accept", "a b"), "a b");
    }

    #[test]
    fn a_secret_in_a_target_is_replaced_however_its_name_is_written() {
        assert_eq!(
            target("/t?grant_type=a&client_secret=x%2By&client%5Fsecret=z&flag"),
            "/t?grant_type=a&client_secret=[redacted]&client%5Fsecret=[redacted]&flag"
        );
        assert_eq!(target("/t"), "/t");
    }
}
