//! Secrets in a request and in the reply to it: zeroized copies, and a search for the client secret in a text.
//!
//! Buffers of libraries (URL, HTTP, JSON, TLS) are not zeroized. A client secret sent in a form stays in none of them;
//! one sent in a URL or in `Authorization` may.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// A header value that no log shows; it keeps the text's allocation, which is zeroized when dropped.
///
/// The text must be visible ASCII.
pub(super) fn sensitive(text: Zeroizing<String>) -> HeaderValue {
    let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
    let mut value = value.expect("the text is visible ASCII");
    value.set_sensitive(true);
    value
}

/// `application/x-www-form-urlencoded`.
pub(super) fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Zeroizing<String> {
    // Allocate for every byte encoded: a string that grows leaves copies behind.
    let lengths = pairs.clone().map(|(name, value)| name.len() + value.len() + 1);
    let mut text = Zeroizing::new(String::with_capacity(3 * lengths.sum::<usize>()));
    form_urlencoded::Serializer::new(&mut *text).extend_pairs(pairs);
    text
}

/// The base64 of `id:secret`, both form-encoded first (RFC 6749 §2.3.1).
pub(super) fn basic(id: &SecretString, secret: &SecretString) -> Zeroizing<String> {
    let pair = form(std::iter::once((id.expose_secret(), secret.expose_secret())));
    let pair = Zeroizing::new(pair.replace('=', ":"));
    Zeroizing::new(BASE64_STANDARD.encode(&*pair))
}

/// Finds secrets in a text, however they are encoded there.
pub struct SecretMatcher {
    /// The texts to find, sorted. None begins with another one, so that at a place of a text only the last one that is not
    /// after it can match: a search takes about as long for a thousand secrets as for one.
    patterns: Vec<Zeroizing<Vec<u8>>>,
    /// The number of characters of a secret in a row that are taken for the secret.
    run: usize,
}

/// An echo of a secret may be cut.
const RUN: usize = 8;

impl SecretMatcher {
    /// A search for a client secret and parts of it in a text from outside.
    pub(super) fn new(secret: &SecretString) -> Self {
        let mut matcher = Self {
            patterns: Vec::new(),
            run: RUN,
        };
        matcher.add(secret);
        matcher
    }

    /// A search for whole secrets alone, which [`add`](Self::add) adds: a part of one may be a word of our own texts.
    #[must_use]
    pub fn of_whole_secrets() -> Self {
        Self {
            patterns: Vec::new(),
            run: usize::MAX,
        }
    }

    /// Adds a secret.
    pub fn add(&mut self, secret: &SecretString) {
        let plain = secret.expose_secret();
        self.add_text(plain);
        let mut hex = Zeroizing::new(String::with_capacity(2 * plain.len()));
        for byte in plain.bytes() {
            let _ = write!(*hex, "{byte:02x}");
        }
        self.add_text(&hex);
        // HTTP Basic has it form-encoded (RFC 6749 section 2.3.1), or as it is.
        let form = form(std::iter::once(("", plain)));
        for text in [plain, form.trim_start_matches('=')] {
            for encoded in base64_within(text.as_bytes()) {
                self.add_text(&encoded);
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        let text = normalized(text);
        for run in text.as_bytes().windows(self.run.min(text.len().max(1))) {
            let at = self.patterns.partition_point(|pattern| pattern.as_slice() <= run);
            if self.is_at(run) {
                continue;
            }
            let longer = self.patterns[at..].iter();
            let longer = longer.take_while(|pattern| pattern.starts_with(run)).count();
            self.patterns
                .splice(at..at + longer, [Zeroizing::new(run.to_vec())]);
        }
    }

    /// Whether the text contains a secret, or a part of one if parts are searched for: plain, HTML-escaped,
    /// percent-encoded once or twice, in base64 or in hexadecimal digits.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let mut text = html_unescaped(text);
        for _ in 0..3 {
            let normalized = normalized(&text);
            let bytes = normalized.as_bytes();
            if (0..bytes.len()).any(|at| self.is_at(&bytes[at..])) {
                return true;
            }
            let decoded = percent_decoded(&text);
            if decoded == text {
                return false;
            }
            text = decoded;
        }
        false
    }

    /// Whether the text begins with a pattern.
    fn is_at(&self, text: &[u8]) -> bool {
        let after = self
            .patterns
            .partition_point(|pattern| pattern.as_slice() <= text);
        let last = after.checked_sub(1).map(|last| &self.patterns[last]);
        last.is_some_and(|pattern| text.starts_with(pattern))
    }
}

/// The characters that a secret has in the base64 of a longer text, which depend on its place there: bytes are encoded in
/// groups of three. Characters that also depend on bytes before or after it are left out.
fn base64_within(secret: &[u8]) -> [Zeroizing<String>; 3] {
    [0, 1, 2].map(|before| {
        let mut bytes = Zeroizing::new(Vec::with_capacity(before + secret.len()));
        bytes.resize(before, 0);
        bytes.extend_from_slice(secret);
        let encoded = Zeroizing::new(BASE64_STANDARD.encode(&*bytes));
        let own = (8 * before).div_ceil(6)..8 * bytes.len() / 6;
        Zeroizing::new(encoded.get(own).unwrap_or_default().to_owned())
    })
}

/// The text without the differences between encoders: letter case, `+` for a space, the alphabet of base64.
fn normalized(text: &str) -> Zeroizing<String> {
    let mut normalized = Zeroizing::new(String::with_capacity(text.len()));
    normalized.extend(text.chars().map(|c| match c {
        ' ' | '+' => '-',
        '/' => '_',
        c => c.to_ascii_lowercase(),
    }));
    normalized
}

fn html_unescaped(text: &str) -> Zeroizing<String> {
    let replaced = |text: &str, from, to| Zeroizing::new(text.replace(from, to));
    let text = replaced(&replaced(text, "&lt;", "<"), "&gt;", ">");
    let text = replaced(&text, "&quot;", "\"");
    let text = replaced(&text, "&#39;", "'");
    replaced(&text, "&amp;", "&")
}

/// The text, decoded like one value of a form.
fn percent_decoded(text: &str) -> Zeroizing<String> {
    let value = Zeroizing::new(text.replace('&', "%26"));
    let value = Zeroizing::new(value.replace('=', "%3D"));
    let decoded = form_urlencoded::parse(value.as_bytes()).map(|(value, _)| value);
    Zeroizing::new(decoded.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_encoding() {
        let matcher = SecretMatcher::new(&SecretString::from("s+c%e&t= \u{fc}"));
        for repeated in [
            "s+c%e&t= \u{fc}",
            "s%2Bc%25e%26t%3D+%C3%BC",
            "s%2bc%25e%26t%3d%20%c3%bc",
            "s+c%25e&t=%20%C3%BC",
            &BASE64_STANDARD.encode("s+c%e&t= \u{fc}"),
            &BASE64_STANDARD.encode("id:s%2Bc%25e%26t%3D+%C3%BC"),
            BASE64_STANDARD.encode("s+c%e&t= \u{fc}").trim_end_matches('='),
            &base64::prelude::BASE64_URL_SAFE.encode("s+c%e&t= \u{fc}"),
            "s+c%e&amp;t= \u{fc}",
            "s%252Bc%2525e%2526t%253D%2520%25C3%25BC",
            "s%252Bc%2525e%2526t%253D%2B%25C3%25BC",
        ] {
            assert!(matcher.is_in(&format!("no {repeated}!")), "{repeated}");
        }
        assert!(!matcher.is_in("The client secret supplied is invalid."));

        let matcher = SecretMatcher::new(&SecretString::from("correct+horse%battery"));
        for cut in [
            "correct+hor...",
            "...se%25batte",
            "%63%6f%72%72%65%63%74%2B",
            "636F7272656374",
            &BASE64_STANDARD.encode("correct+horse%battery")[..10],
        ] {
            assert!(matcher.is_in(&format!("no {cut}")), "{cut}");
        }
        assert!(!matcher.is_in("correctly the client secret"));
    }

    #[test]
    fn a_secret_is_found_in_base64_wherever_it_is_in_the_encoded_text() {
        for secret in ["long secret", "long+secret!", "long secret %"] {
            let mut matcher = SecretMatcher::of_whole_secrets();
            matcher.add(&SecretString::from(secret));
            for before in ["", "a", "ab", "abc"] {
                for after in ["", "d", "de"] {
                    let encoded = BASE64_STANDARD.encode(format!("{before}{secret}{after}"));
                    assert!(matcher.is_in(&format!("no {encoded}")), "{before}{secret}{after}");
                }
            }
            assert!(!matcher.is_in(&BASE64_STANDARD.encode("long secre")));
        }
    }

    #[test]
    fn of_many_secrets_each_is_found_and_one_that_begins_like_another_too() {
        let mut matcher = SecretMatcher::of_whole_secrets();
        for number in (0..100).rev() {
            matcher.add(&SecretString::from(format!("secret-{number}-{number}")));
        }
        for secret in ["secret-7-7-longer", "secret-8", ""] {
            matcher.add(&SecretString::from(secret));
        }
        for found in (0..100).map(|number| format!("secret-{number}-{number}")) {
            assert!(matcher.is_in(&format!("x={found}.")), "{found}");
        }
        assert!(matcher.is_in("secret-8") && matcher.is_in("secret-89"));
        assert!(!matcher.is_in("secret-7-6"));
        let sorted = matcher.patterns.windows(2);
        let is_right = |pair: &[Zeroizing<Vec<u8>>]| *pair[0] < *pair[1] && !pair[1].starts_with(&pair[0]);
        assert!(sorted.into_iter().all(is_right));
    }

    #[test]
    fn an_encoded_form_is_never_copied() {
        let text = form(std::iter::once(("\u{fc}", "%&=")));
        assert_eq!(
            text.capacity(),
            3 * ("\u{fc}".len() + "%&=".len() + 1),
            "it did not grow"
        );
        let address = text.as_ptr();
        assert_eq!(Bytes::from_owner(text).as_ptr(), address);
    }

    #[test]
    fn a_sensitive_value_is_not_copied_and_not_shown() {
        let text = Zeroizing::new("Bearer hunter2".to_owned());
        let address = text.as_ptr();
        let value = sensitive(text);
        assert_eq!(value.as_bytes().as_ptr(), address);
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
