//! Which header fields go through, both ways: strip first, inject last.

use http::header::{
    ACCEPT_ENCODING, ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    PROXY_AUTHENTICATE, RANGE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Where callers may put their key, beside Basic credentials.
pub(super) const CALLER_KEY: HeaderName = HeaderName::from_static("x-bondgate-key");

/// Our name in `Via` (RFC 9110 §7.6.3).
const VIA_BONDGATE: HeaderValue = HeaderValue::from_static("1.1 bondgate");

/// Fields of one connection (RFC 9110 §7.6.1), whatever `Connection` says.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that no `Connection` line can name away.
const PROTECTED: [HeaderName; 4] = [HOST, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE];

/// Fields of the caller that say who it is or where it goes; that is ours to say. The last ones make
/// some servers act on another method or path than the one that was judged.
const CALLERS_OWN: [HeaderName; 12] = [
    AUTHORIZATION,
    CALLER_KEY,
    COOKIE,
    EXPECT,
    FORWARDED,
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-rewrite-url"),
];

/// Fields of the upstream that speak to a browser about the upstream's own name.
const UPSTREAMS_OWN: [HeaderName; 4] = [ALT_SVC, PROXY_AUTHENTICATE, SET_COOKIE, STRICT_TRANSPORT_SECURITY];

/// Fields of a request that make an answer part of a message, or none: what is kept for another caller
/// has to be all of it, and as anybody reads it.
const ASKS_FOR_PART: [HeaderName; 8] = [
    ACCEPT_ENCODING,
    RANGE,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    HeaderName::from_static("a-im"),
];

/// The fields of a request for a message, without those that ask for less than all of it.
pub(super) fn for_whole_message(headers: &mut HeaderMap) {
    for name in &ASKS_FOR_PART {
        headers.remove(name);
    }
}

/// The caller's fields, made ready to be sent upstream but for `Authorization`.
pub(super) fn outbound(mut headers: HeaderMap, host: &HeaderValue) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    for name in &CALLERS_OWN {
        headers.remove(name);
    }
    strip_where(&mut headers, |name| {
        // `Authorization_` reaches some servers as `Authorization` (CVE-2025-64484).
        name.starts_with("proxy-") || name.starts_with("x-forwarded-") || name.contains('_')
    });
    headers.insert(HOST, host.clone());
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// The upstream's fields, made ready for the caller.
pub(super) fn inbound(mut headers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    for name in &UPSTREAMS_OWN {
        headers.remove(name);
    }
    strip_where(&mut headers, |name| name.starts_with("access-control-"));
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// Whether a request has been through here before.
pub(super) fn is_loop(headers: &HeaderMap) -> bool {
    headers
        .get_all(VIA)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|hop| hop.split_ascii_whitespace().nth(1) == Some("bondgate"))
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !PROTECTED.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn strip_where(headers: &mut HeaderMap, unwanted: impl Fn(&str) -> bool) {
    if headers.keys().any(|name| unwanted(name.as_str())) {
        let names: Vec<HeaderName> = headers
            .keys()
            .filter(|name| unwanted(name.as_str()))
            .cloned()
            .collect();
        for name in names {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn sent(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        outbound(headers(pairs), &HeaderValue::from_static("sb.xylem.cisco.com"))
    }

    #[test]
    fn every_connection_line_is_heeded_and_protected_fields_stay() {
        let sent = sent(&[
            ("connection", "x-a, Content-Type"),
            ("connection", "keep-alive,x-b"),
            ("x-a", "1"),
            ("x-b", "1"),
            ("x-c", "1"),
            ("content-type", "application/json"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
        ]);
        let names: Vec<&str> = sent.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-c", "content-type", "host", "via"]);
    }

    #[test]
    fn what_says_who_the_caller_is_does_not_go_upstream() {
        let sent = sent(&[
            ("authorization", "Bearer forged"),
            ("authorization_", "Bearer forged"),
            ("x-bondgate-key", "k"),
            ("proxy-authorization", "Basic x"),
            ("proxy-anything", "x"),
            ("cookie", "a=b"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-anything", "x"),
            ("x-http-method-override", "DELETE"),
            ("expect", "100-continue"),
            ("host", "localhost:8080"),
            ("x-correlation-id", "c"),
        ]);
        assert_eq!(sent.len(), 3, "{sent:?}");
        assert_eq!(sent[HOST], "sb.xylem.cisco.com");
        assert_eq!(sent["x-correlation-id"], "c");
    }

    #[test]
    fn fields_with_several_values_keep_them_in_order() {
        let sent = sent(&[("accept", "a"), ("accept", "b"), ("via", "1.0 fred")]);
        assert_eq!(sent.get_all("accept").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            sent.get_all(VIA).iter().collect::<Vec<_>>(),
            ["1.0 fred", "1.1 bondgate"]
        );
    }

    #[test]
    fn our_own_via_is_a_loop() {
        assert!(is_loop(&headers(&[("via", "1.0 fred, 1.1 bondgate (x)")])));
        assert!(!is_loop(&headers(&[
            ("via", "1.1 bondgate2"),
            ("via", "bondgate")
        ])));
    }

    #[test]
    fn what_the_upstream_says_of_its_own_name_stays_behind() {
        let got = inbound(headers(&[
            ("connection", "close, x-a"),
            ("x-a", "1"),
            ("set-cookie", "a=b"),
            ("alt-svc", "h3"),
            ("strict-transport-security", "max-age=1"),
            ("access-control-allow-origin", "*"),
            ("content-type", "application/json"),
            ("x-transaction-id", "t"),
        ]));
        let names: Vec<&str> = got.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "x-transaction-id", "via"]);
    }
}
