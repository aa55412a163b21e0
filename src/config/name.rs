//! Names as an operator writes them: of this machine, of web pages, of a path.

use std::fmt;

use http::uri::Authority;
use serde::Deserialize;

use super::section::Written;

/// A host name, or every name below one: `*.svc.cluster.local`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// Whether a host name, without port, is meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

impl Written for HostPattern {
    const FORM: &'static str = "a host name in quotes, like \"bondgate.internal\"";
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = text.strip_prefix("*.").unwrap_or(&text).trim_end_matches('.');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(format!(
                "{text:?} is not a host name; write it like \"bondgate.internal\" or \"*.internal\", without port"
            ));
        }
        // The root's dot is part of no name that is compared.
        Ok(Self(text.trim_end_matches('.').to_ascii_lowercase()))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The origin of web pages, as browsers send it in `Origin`: `https://itsm.example`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Whether a value of `Origin` is this one.
    #[must_use]
    pub fn is(&self, sent: &[u8]) -> bool {
        self.0.as_bytes() == sent
    }
}

impl Written for WebOrigin {
    const FORM: &'static str = "an origin in quotes, like \"https://itsm.example\"";
}

impl TryFrom<String> for WebOrigin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = |why: &str| Err(format!("{text:?} {why}"));
        match text.as_str() {
            "*" => return wrong("would let every page in; list the origins one by one"),
            "null" => return wrong("is what any page can make its browser send; it cannot be let in"),
            _ => {}
        }
        let origin = text.to_ascii_lowercase();
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        };
        let parts = origin.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
        let authority = parts.and_then(|(_, rest)| rest.parse::<Authority>().ok());
        let (Some((scheme, rest)), Some(authority)) = (parts, authority) else {
            return wrong("is not an origin; write it like \"https://itsm.example\", without a path");
        };
        let has_port = authority.as_str().len() > authority.host().len();
        let is_host = !authority.host().is_empty()
            && !rest.contains(['@', '*'])
            && (!has_port || authority.port_u16().is_some());
        if !is_host {
            return wrong(
                "is not an origin; write it like \"https://itsm.example\" or \"http://10.0.0.5:3000\"",
            );
        }
        // A browser leaves the scheme's own port out.
        let own = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        Ok(Self(origin.strip_suffix(own).unwrap_or(&origin).to_owned()))
    }
}

/// Whether a path means the same to every reader, and is one: `/healthz`.
pub(super) fn is_plain_path(path: &str) -> bool {
    let is_segment = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    path == "/"
        || path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(is_segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        let origin = |text: &str| WebOrigin::try_from(text.to_owned());
        for (text, sent) in [
            ("https://itsm.example", "https://itsm.example"),
            ("HTTPS://ITSM.example:443", "https://itsm.example"),
            ("http://10.0.0.5:3000", "http://10.0.0.5:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("http://a:443", "http://a:443"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert!(origin(text).unwrap().is(sent.as_bytes()), "{text}");
        }
        for wrong in [
            "",
            "*",
            "null",
            "itsm.example",
            "https://",
            "https://itsm.example/",
            "https://itsm.example/path",
            "https://itsm.example:",
            "https://itsm.example:port",
            "https://*.example",
            "https://user@itsm.example",
            "://itsm.example",
            "https://a b",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_plain_path_means_the_same_to_every_reader() {
        for path in ["/", "/healthz", "/a/b-c_d.e~"] {
            assert!(is_plain_path(path), "{path}");
        }
        for path in [
            "", "healthz", "//", "/a/", "/a//b", "/a/../b", "/.", "/a?b", "/a#b", "/%41", "/a;b", "/a b",
        ] {
            assert!(!is_plain_path(path), "{path}");
        }
    }

    #[test]
    fn a_star_stands_for_at_least_one_label() {
        let pattern = |text: &str| HostPattern::try_from(text.to_owned()).unwrap();
        assert!(pattern("Bondgate.Internal").matches("bondgate.INTERNAL"));
        assert!(pattern("*.local").matches("a.local") && pattern("*.local").matches("a.b.local"));
        assert!(!pattern("*.local").matches("local") && !pattern("*.local").matches(".local"));
        assert!(!pattern("*.local").matches("evil-local"));
        assert!(pattern("a.local.").matches("a.local") && pattern("*.local.").matches("a.local"));
        for wrong in ["", "*", "*.", "a:80", "http://a", "a*b"] {
            assert!(HostPattern::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
