//! The host names that a listener accepts.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use super::connection::split_port;
use crate::config::HostPattern;

/// The host names that a listener accepts. A page whose own name was rebound to this machine sends that name in `Host`: where
/// a browser sends nothing else that identifies it, only this check works.
#[derive(Clone, Debug)]
pub struct HostNames {
    patterns: Vec<HostPattern>,
    upstream: Option<String>,
}

impl HostNames {
    /// Accepts `patterns`, loopback names, IP literals, and the upstream's name.
    #[must_use]
    pub fn new(patterns: Vec<HostPattern>, upstream: Option<&str>) -> Self {
        Self {
            patterns,
            upstream: upstream.map(|name| name.trim_end_matches('.').to_ascii_lowercase()),
        }
    }

    /// Whether a request names this listener: in `Host` and, in absolute form, in its target. Ports are ignored. A request
    /// with neither (HTTP/1.0) is accepted.
    #[must_use]
    pub fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).map(|host| host.to_str().unwrap_or_default());
        let authority = uri.authority().map(Authority::as_str);
        let mut named = host.into_iter().chain(authority);
        named.all(|host| !host.contains('@') && self.allow_name(split_port(host).0))
    }

    fn allow_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            // Browsers connect to this machine for 0.0.0.0 and ::ffff:127.0.0.1, without the fields that identify a page.
            // No other client uses these addresses.
            let is_mapped = address.to_canonical() != address;
            return !is_mapped && !address.is_unspecified();
        }
        let mut name = Cow::Borrowed(name);
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name.to_mut().make_ascii_lowercase();
        }
        name == "localhost"
            || name.ends_with(".localhost")
            || self.upstream.as_deref() == Some(&*name)
            || self.patterns.iter().any(|pattern| pattern.matches(&name))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_host_is_accepted_by_its_name_or_as_an_address() {
        let pattern = HostPattern::try_from("*.internal".to_owned()).unwrap();
        let names = HostNames::new(vec![pattern], Some("SB.xylem.cisco.com."));
        let allow = |host| names.allow(&Uri::from_static("/"), &headers(&[("host", host)]));
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost",
            "127.0.0.1:1",
            "10.0.0.7",
            "[::1]:8080",
            "sb.xylem.cisco.com",
            "gate.internal:80",
            "localhost.",
        ] {
            assert!(allow(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "0.0.0.0:8080",
            "[::]",
            "[::ffff:0.0.0.0]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "internal",
        ] {
            assert!(!allow(host), "{host}");
        }
        assert!(names.allow(&Uri::from_static("/"), &HeaderMap::new()));
        for own in [
            "http://sb.xylem.cisco.com/",
            "http://gate.internal:1/",
            "http://127.0.0.1/",
        ] {
            assert!(
                names.allow(&Uri::from_static(own), &headers(&[("host", "localhost")])),
                "{own}"
            );
        }
        assert!(!names.allow(
            &Uri::from_static("http://localhost/"),
            &headers(&[("host", "evil.example")])
        ));
        for foreign in ["http://user@localhost/", "http://a.localhost:1@localhost/"] {
            let foreign = Uri::from_static(foreign);
            assert!(!names.allow(&foreign, &HeaderMap::new()), "{foreign}");
        }
        assert!(!names.allow(
            &Uri::from_static("http://evil.example/"),
            &headers(&[("host", "localhost")])
        ));
    }
}
