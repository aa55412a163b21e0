//! Copies of secrets that are wiped when dropped, and the ways in which an echo may spell one.
//!
//! What is wiped is what this program itself holds. Libraries' buffers (URL, HTTP, JSON, TLS) are theirs:
//! of a client secret sent in a form none is left behind, of one in a URL or in `Authorization` some are.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

/// A secret's bytes without a copy.
pub(super) fn bytes(secret: SecretString) -> Bytes {
    struct Owner(SecretString);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.expose_secret().as_bytes()
        }
    }
    Bytes::from_owner(Owner(secret))
}

/// A header value that no log shows, without a copy.
pub(super) fn sensitive(value: Bytes) -> HeaderValue {
    let mut value = HeaderValue::from_maybe_shared(value).expect("the text is visible ASCII");
    value.set_sensitive(true);
    value
}

/// `application/x-www-form-urlencoded`, the pairs joined by `&`.
pub(super) fn form<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> SecretString {
    // Room for every byte encoded: a string that grows leaves copies behind.
    let room = pairs
        .clone()
        .map(|(name, value)| 3 * (name.len() + value.len()) + 2)
        .sum();
    let text = form_urlencoded::Serializer::new(String::with_capacity(room))
        .extend_pairs(pairs)
        .finish();
    sealed(&Zeroizing::new(text))
}

/// The base64 of `id:secret`, both form-encoded first (RFC 6749 §2.3.1).
pub(super) fn basic(id: &SecretString, secret: &SecretString) -> Zeroizing<String> {
    let pair = Zeroizing::new([&*encoded(id), ":", &*encoded(secret)].concat());
    Zeroizing::new(BASE64_STANDARD.encode(&*pair))
}

/// A text in an allocation of exactly its size, so that no resizing leaves a copy.
pub(super) fn sealed(text: &str) -> SecretString {
    SecretString::new(Box::from(text))
}

fn encoded(secret: &SecretString) -> Zeroizing<String> {
    let secret = secret.expose_secret();
    let mut text = Zeroizing::new(String::with_capacity(3 * secret.len()));
    text.extend(form_urlencoded::byte_serialize(secret.as_bytes()));
    text
}

/// Every way in which a request or its echo spells a client secret.
pub(super) struct Spellings([Zeroizing<String>; 5]);

impl Spellings {
    pub(super) fn of(id: &SecretString, secret: &SecretString) -> Self {
        let plain = secret.expose_secret();
        let form = encoded(secret);
        let lower = |text: &str| Zeroizing::new(text.to_ascii_lowercase());
        Self([
            lower(plain),
            lower(&form),
            lower(&Zeroizing::new(form.replace('+', "%20"))),
            lower(Zeroizing::new(BASE64_STANDARD.encode(plain)).trim_end_matches('=')),
            lower(basic(id, secret).trim_end_matches('=')),
        ])
    }

    /// Whether a text holds the secret: as it is, escaped for HTML, percent-encoded once or twice, or in
    /// either base64, in capitals or not. Encoders differ in what they leave alone, and in whether a
    /// "+" is a space.
    pub(super) fn are_in(&self, text: &str) -> bool {
        let plain = html_unescaped(text);
        let mut texts = vec![url_to_standard(&plain)];
        for text in [&plain, &replaced(&plain, &[("+", "%2B")])] {
            let once = percent_decoded(text);
            texts.push(percent_decoded(&replaced(&once, &[("+", "%2B")])));
            texts.push(once);
        }
        texts.push(plain);
        texts.iter().any(|text| {
            let text = Zeroizing::new(text.to_ascii_lowercase());
            self.0.iter().any(|spelling| text.contains(&**spelling))
        })
    }
}

fn replaced(text: &str, pairs: &[(&str, &str)]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(text.to_owned());
    for (from, to) in pairs {
        text = Zeroizing::new(text.replace(from, to));
    }
    text
}

fn html_unescaped(text: &str) -> Zeroizing<String> {
    let entities = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&amp;", "&"),
    ];
    replaced(text, &entities)
}

/// base64url as base64.
fn url_to_standard(text: &str) -> Zeroizing<String> {
    replaced(text, &[("-", "+"), ("_", "/")])
}

/// A text that need not be a form, decoded as a value of one.
fn percent_decoded(text: &str) -> Zeroizing<String> {
    let one = replaced(text, &[("&", "%26"), ("=", "%3D")]);
    let mut decoded = Zeroizing::new(String::with_capacity(one.len()));
    for (whole, _) in form_urlencoded::parse(one.as_bytes()) {
        decoded.push_str(&whole);
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_recognised_however_it_is_encoded() {
        let (id, secret) = (SecretString::from("id"), SecretString::from("s+c%e&t= \u{fc}"));
        let spellings = Spellings::of(&id, &secret);
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
        ] {
            assert!(spellings.are_in(&format!("no {repeated}!")), "{repeated}");
        }
        assert!(!spellings.are_in("The client secret supplied is invalid."));
    }

    #[test]
    fn a_shared_secret_is_not_copied() {
        let secret = sealed("hunter2");
        let place = secret.expose_secret().as_ptr();
        assert_eq!(bytes(secret).as_ptr(), place);
    }

    #[test]
    fn a_sensitive_value_is_not_copied_and_not_shown() {
        let bytes = bytes(sealed("Bearer hunter2"));
        let place = bytes.as_ptr();
        let value = sensitive(bytes);
        assert_eq!(value.as_bytes().as_ptr(), place);
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
