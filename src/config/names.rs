//! Host names, browser origins and plain paths.

use http::uri::Authority;
use serde::Deserialize;

use super::address::names_host;

/// A host name, or every name below one: `*.svc.cluster.local`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct HostPattern(String);

impl HostPattern {
    /// Whether a host name without port matches.
    pub(crate) fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = text.strip_prefix("*.").unwrap_or(&text).trim_end_matches('.');
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(format!(
                "{text:?} is not a host name; write it like \"bondgate.internal\" or \"*.internal\", without port"
            ));
        }
        // Names are compared without the dot of the root.
        Ok(Self(text.trim_end_matches('.').to_ascii_lowercase()))
    }
}

/// The origin of web pages, as browsers send it in `Origin`: `https://itsm.example`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct WebOrigin(String);

impl WebOrigin {
    /// Whether a value of `Origin` is this one.
    pub(crate) fn is(&self, sent: &[u8]) -> bool {
        self.0.as_bytes() == sent
    }
}

impl TryFrom<String> for WebOrigin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = |why: &str| Err(format!("{text:?} {why}"));
        match text.as_str() {
            "*" => return wrong("would allow every page; list the origins one by one"),
            "null" => return wrong("can be sent by any page; it cannot be allowed"),
            _ => {}
        }
        let origin = text.to_ascii_lowercase();
        let parts = origin.split_once("://").filter(|(scheme, _)| is_scheme(scheme));
        let is_host = |authority: Authority| names_host(&authority) && !authority.as_str().contains('*');
        let Some((scheme, _)) = parts.filter(|(_, rest)| rest.parse().is_ok_and(is_host)) else {
            return wrong("is not an origin; write it like \"https://itsm.example\", without a path");
        };
        // A browser leaves out the default port of the scheme.
        let default = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => "",
        };
        Ok(Self(origin.strip_suffix(default).unwrap_or(&origin).to_owned()))
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether a path can be written in one way only, and is not a prefix: `/healthz`.
pub(super) fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let is_segment = |segment: &str| !["", ".", ".."].contains(&segment) && segment.bytes().all(is_plain);
    let rest = path.strip_prefix('/');
    path == "/" || rest.is_some_and(|rest| rest.split('/').all(is_segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_compared_as_a_browser_sends_it() {
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
    fn a_plain_path_has_one_form() {
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
    fn a_star_matches_at_least_one_label() {
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
