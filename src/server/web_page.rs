//! Recognizes requests that a browser sends for a web page. Loopback is not access control: a page can make its visitor's
//! browser send requests there, and one GET takes a message off a queue.

use http::header::{HOST, ORIGIN, UPGRADE_INSECURE_REQUESTS};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::WebOrigin;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

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
