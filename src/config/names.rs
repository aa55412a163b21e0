//! Host names, browser origins and plain paths.

use http::uri::Authority;
use serde::Deserialize;

use super::address::names_host;

/// A host name, every name below one (`*.svc.cluster.local`), or the names of a Kubernetes Service
/// (`service:NAME.NAMESPACE`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct HostPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// These names alone.
    Names(Vec<String>),
    /// Every name that ends in this, which begins with a dot.
    Below(String),
}

impl HostPattern {
    /// Whether a host name without port matches.
    pub(crate) fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match &self.0 {
            Pattern::Names(names) => names.contains(&host),
            Pattern::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        }
    }

    /// How many names it lists; 1 for all names below one.
    pub(super) fn count(&self) -> usize {
        match &self.0 {
            Pattern::Names(names) => names.len(),
            Pattern::Below(_) => 1,
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if let Some(service) = text.strip_prefix("service:") {
            let names = service_names(&service.to_ascii_lowercase()).ok_or_else(|| {
                format!(
                    "{text:?} is not a Kubernetes Service; write it as \"service:NAME.NAMESPACE\", with the names of the \
                     Service and of its namespace"
                )
            })?;
            return Ok(Self(Pattern::Names(names)));
        }
        // Names are compared without the dot of the root.
        let pattern = text.trim_end_matches('.').to_ascii_lowercase();
        let name = pattern.strip_prefix("*.").unwrap_or(&pattern);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err(format!(
                "{text:?} is not a host name; write it like \"bondgate.internal\", \"*.internal\" or \
                 \"service:NAME.NAMESPACE\", without port"
            ));
        }
        Ok(Self(match pattern.strip_prefix('*') {
            Some(suffix) => Pattern::Below(suffix.to_owned()),
            None => Pattern::Names(vec![pattern]),
        }))
    }
}

/// The names by which pods call a Service, written `NAME.NAMESPACE`, in a cluster with the default domain.
fn service_names(service: &str) -> Option<Vec<String>> {
    let (name, namespace) = service.split_once('.')?;
    if !is_label(name) || !is_label(namespace) {
        return None;
    }
    let rest = ["", ".svc", ".svc.cluster.local"];
    let names = rest.map(|rest| format!("{service}{rest}")).into_iter();
    Some(names.chain([name.to_owned()]).collect())
}

/// Whether a text is one label of a name (RFC 1123), as the names of Services and namespaces are.
fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
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

    #[test]
    fn a_service_has_four_names() {
        let pattern = HostPattern::try_from("service:Gate-1.itsm".to_owned()).unwrap();
        assert_eq!(pattern.count(), 4);
        for name in [
            "gate-1",
            "GATE-1.itsm",
            "gate-1.itsm.svc",
            "gate-1.itsm.svc.cluster.local",
        ] {
            assert!(pattern.matches(name), "{name}");
        }
        for other in [
            "gate-1.other",
            "gate-1.itsm.svc.other.local",
            "gate-1.itsm.example",
            "gate-1.svc.cluster.local",
            "a.gate-1.itsm",
            "itsm",
            "service:gate-1.itsm",
            "",
        ] {
            assert!(!pattern.matches(other), "{other}");
        }
        for wrong in [
            "service:",
            "service:gate",
            "service:gate.",
            "service:.itsm",
            "service:gate.itsm.svc",
            "service:-gate.itsm",
            "service:gate-.itsm",
            "service:gate_1.itsm",
            "service:gate.itsm:8080",
            "service:*.itsm",
        ] {
            let fault = HostPattern::try_from(wrong.to_owned()).unwrap_err();
            assert!(fault.contains("\"service:NAME.NAMESPACE\""), "{wrong}: {fault}");
        }
        let long = format!("service:{}.itsm", "a".repeat(64));
        assert!(HostPattern::try_from(long).is_err());
    }
}
