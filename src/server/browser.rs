//! Recognizes requests that a browser sends for a web page. Loopback is not access control: a page can make its visitor's
//! browser send requests there, and one GET takes a message off a queue.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{HOST, ORIGIN, UPGRADE_INSECURE_REQUESTS};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::config::{HostPattern, WebOrigin};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

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
        let is_ours = |host: &HeaderValue| host.to_str().is_ok_and(|host| self.allow_host(host));
        headers.get(HOST).is_none_or(is_ours)
            && uri
                .authority()
                .is_none_or(|authority| self.allow_authority(authority))
    }

    fn allow_host(&self, host: &str) -> bool {
        match plain_name(host) {
            Some(name) => self.allow_name(name),
            None => host
                .parse()
                .is_ok_and(|authority| self.allow_authority(&authority)),
        }
    }

    fn allow_authority(&self, authority: &Authority) -> bool {
        !authority.as_str().contains('@') && self.allow_name(authority.host())
    }

    fn allow_name(&self, name: &str) -> bool {
        let mut name = Cow::Borrowed(name.trim_end_matches('.'));
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name.to_mut().make_ascii_lowercase();
        }
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            // Browsers connect to this machine for 0.0.0.0 and ::ffff:127.0.0.1, without the fields that identify a page.
            // No other client uses these addresses.
            let is_mapped = address.to_canonical() != address;
            return !is_mapped && !address.is_unspecified();
        }
        name == "localhost"
            || name.ends_with(".localhost")
            || self.upstream.as_deref() == Some(&*name)
            || self.patterns.iter().any(|pattern| pattern.matches(&name))
    }
}

/// The name in a host of letters, digits, dots and dashes, with or without a port: the common case, without a parser.
fn plain_name(host: &str) -> Option<&str> {
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    (is_port && !name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

/// How a browser sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebPage {
    /// A person opened the address.
    Navigation,
    /// A script, form or image of a page.
    Request,
}

/// Whether a browser sent this request for a page other than those of `origins`. Of a repeated field, each line counts.
#[must_use]
pub fn web_page(headers: &HeaderMap, origins: &[WebOrigin]) -> Option<WebPage> {
    // Other clients send none of these fields, and one pass over the names finds out.
    let is_browsers = |name: &HeaderName| {
        name == ORIGIN
            || name == UPGRADE_INSECURE_REQUESTS
            || name.as_str().starts_with("sec-fetch-")
            || is_preflight(name)
    };
    if !headers.keys().any(is_browsers) {
        return None;
    }
    let is_listed = |origin: &HeaderValue| origins.iter().any(|listed| listed.is(origin.as_bytes()));
    let mut sent = headers.get_all(ORIGIN).iter();
    if sent.any(|origin| !is_listed(origin) && !is_own(origin, headers)) {
        return Some(WebPage::Request);
    }
    // A listed origin may send simple requests; no response ever grants it CORS access.
    if headers.keys().any(is_preflight) {
        return Some(WebPage::Request);
    }
    let mut modes = headers.get_all(SEC_FETCH_MODE).iter();
    // To an address that is not loopback, browsers send only the second field with a navigation.
    if modes.any(|mode| mode == "navigate") || headers.contains_key(UPGRADE_INSECURE_REQUESTS) {
        return Some(WebPage::Navigation);
    }
    let is_from_listed = headers.get(ORIGIN).is_some_and(is_listed);
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    let is_foreign = !is_from_listed && sites.any(|site| site != "none" && site != "same-origin");
    is_foreign.then_some(WebPage::Request)
}

fn is_preflight(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-request-")
}

fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_ascii_lowercase);
    let (Some(origin), Some(host)) = (text(origin), headers.get(HOST).and_then(text)) else {
        return false;
    };
    origin
        .split_once("://")
        .is_some_and(|(_, name)| !name.is_empty() && name == host)
}

#[cfg(test)]
mod tests {
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
        assert!(!names.allow(
            &Uri::from_static("http://evil.example/"),
            &headers(&[("host", "localhost")])
        ));
    }

    #[test]
    fn a_page_is_recognized_by_the_fields_that_its_browser_adds() {
        let listed = WebOrigin::try_from("https://itsm.example".to_owned()).unwrap();
        let page = |pairs: &[_]| web_page(&headers(pairs), std::slice::from_ref(&listed));
        for pairs in [
            &[][..],
            &[("sec-fetch-site", "none")],
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")],
            &[
                ("origin", "https://itsm.example"),
                ("sec-fetch-site", "cross-site"),
            ],
            &[("origin", "http://localhost:1"), ("host", "localhost:1")],
            &[("origin", "https://LOCALHOST"), ("host", "localhost")],
        ] {
            assert_eq!(page(pairs), None, "{pairs:?}");
        }
        for pairs in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "https://itsm.example.evil.example")],
            &[("origin", "http://itsm.example")],
            &[("origin", "https://itsm.example:444")],
            &[("origin", "null")],
            &[("origin", "")],
            &[("origin", "http://")],
            &[("origin", "http://"), ("host", "")],
            &[("origin", "http://localhost:1"), ("host", "localhost:2")],
            &[("origin", "http://localhost"), ("host", "127.0.0.1")],
            &[
                ("origin", "https://itsm.example"),
                ("origin", "https://evil.example"),
            ],
            &[
                ("origin", "https://evil.example"),
                ("origin", "https://itsm.example"),
            ],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "")],
            &[("access-control-request-method", "GET")],
            &[("access-control-request-headers", "x")],
            &[("access-control-request-private-network", "true")],
            &[("access-control-request-local-network", "true")],
            &[
                ("origin", "https://itsm.example"),
                ("access-control-request-method", "PUT"),
            ],
        ] {
            assert_eq!(page(pairs), Some(WebPage::Request), "{pairs:?}");
        }
        for pairs in [
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")][..],
            &[("sec-fetch-mode", "navigate"), ("sec-fetch-site", "cross-site")],
            &[("sec-fetch-mode", "cors"), ("sec-fetch-mode", "navigate")],
            &[("upgrade-insecure-requests", "1")],
        ] {
            assert_eq!(page(pairs), Some(WebPage::Navigation), "{pairs:?}");
        }
    }
}
