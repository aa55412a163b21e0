//! Keeps web pages out: loopback is no access control, since a page can make its visitor's browser
//! send requests there, and a GET is enough to take a message off a queue.

use std::net::IpAddr;

use http::header::{ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, Uri};

use crate::config::HostPattern;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// Chrome's preflight for requests into private networks.
const PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");

/// The names that a listener answers to. A page whose own name was rebound to this machine sends
/// that name: this is the check that works where a browser says nothing else of itself.
#[derive(Clone, Debug)]
pub struct HostNames {
    patterns: Vec<HostPattern>,
    upstream: Option<String>,
}

impl HostNames {
    /// `patterns` and, beside loopback names and IP literals, the upstream's own name.
    #[must_use]
    pub fn new(patterns: Vec<HostPattern>, upstream: Option<&str>) -> Self {
        Self {
            patterns,
            upstream: upstream.map(str::to_ascii_lowercase),
        }
    }

    /// Whether a request is meant for us: by its `Host` and, in absolute form, by its target; the
    /// port is not judged. A request without either (HTTP/1.0) is taken.
    #[must_use]
    pub fn allow(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let host = headers.get(HOST).map(|value| {
            value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<Authority>().ok())
        });
        let named = match &host {
            None => true,
            Some(None) => false,
            Some(Some(authority)) => self.allow_name(authority),
        };
        named && uri.authority().is_none_or(|authority| self.allow_name(authority))
    }

    fn allow_name(&self, authority: &Authority) -> bool {
        if authority.as_str().contains('@') {
            return false;
        }
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            // Browsers take 0.0.0.0 for this machine, and 127.0.0.1 as an IPv6 address for no secure context:
            // with neither they say where a request comes from. Nobody else writes them.
            let is_mapped = address.to_canonical() != address;
            return !is_mapped && !address.is_unspecified();
        }
        name == "localhost"
            || name.ends_with(".localhost")
            || self.upstream.as_ref() == Some(&name)
            || self.patterns.iter().any(|pattern| pattern.matches(&name))
    }
}

/// Why a request is taken for a web page's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebPage {
    /// A person typed or followed the address.
    Navigation,
    /// A page's script, form or image.
    Request,
}

/// Whether a browser sent this for a page; `origins` are let in.
#[must_use]
pub fn web_page(headers: &HeaderMap, origins: &[String]) -> Option<WebPage> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(origin) = headers.get(ORIGIN) {
        let host = text(HOST).unwrap_or_default();
        let is_own = origin.to_str().is_ok_and(|origin| {
            origin
                .split_once("://")
                .is_some_and(|(_, name)| name.eq_ignore_ascii_case(host))
        });
        let is_listed = origins
            .iter()
            .any(|listed| origin.as_bytes() == listed.as_bytes());
        if is_listed {
            return None;
        }
        if !is_own {
            return Some(WebPage::Request);
        }
    }
    if text(SEC_FETCH_MODE) == Some("navigate") {
        return Some(WebPage::Navigation);
    }
    let is_cross_site = headers
        .get(SEC_FETCH_SITE)
        .is_some_and(|site| site != "none" && site != "same-origin");
    let is_preflight = [
        ACCESS_CONTROL_REQUEST_METHOD,
        ACCESS_CONTROL_REQUEST_HEADERS,
        PRIVATE_NETWORK,
    ]
    .iter()
    .any(|name| headers.contains_key(name));
    (is_cross_site || is_preflight).then_some(WebPage::Request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_host_is_ours_by_name_or_is_an_address() {
        let pattern = HostPattern::try_from("*.internal".to_owned()).unwrap();
        let names = HostNames::new(vec![pattern], Some("sb.xylem.cisco.com"));
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
        assert!(!names.allow(
            &Uri::from_static("http://evil.example/"),
            &headers(&[("host", "localhost")])
        ));
    }

    #[test]
    fn a_page_is_told_by_what_its_browser_adds() {
        let page = |pairs: &[_]| web_page(&headers(pairs), &["https://itsm.example".to_owned()]);
        assert_eq!(page(&[]), None);
        assert_eq!(page(&[("sec-fetch-site", "none")]), None);
        assert_eq!(
            page(&[
                ("origin", "https://itsm.example"),
                ("sec-fetch-site", "cross-site")
            ]),
            None
        );
        assert_eq!(
            page(&[("origin", "http://localhost:1"), ("host", "localhost:1")]),
            None
        );
        for pairs in [
            &[("origin", "https://evil.example")][..],
            &[("origin", "null")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("access-control-request-method", "GET")],
        ] {
            assert_eq!(page(pairs), Some(WebPage::Request), "{pairs:?}");
        }
        assert_eq!(
            page(&[("sec-fetch-mode", "navigate"), ("sec-fetch-site", "none")]),
            Some(WebPage::Navigation)
        );
    }
}
