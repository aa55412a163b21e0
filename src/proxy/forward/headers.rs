//! Which header fields are passed on, in both directions. Everything unwanted is removed first; our own fields are set
//! last.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE, VIA,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;

/// The field for a caller key alone, instead of Basic credentials.
pub(crate) const CALLER_KEY: HeaderName = HeaderName::from_static("x-bondgate-key");

/// Marks a message that was pulled for an earlier request, with the time of the pull. Only bondgate sets it.
pub(crate) const REDELIVERED: HeaderName = HeaderName::from_static("bondgate-redelivered");

/// Our name in `Via` (RFC 9110 §7.6.3).
const VIA_BONDGATE: HeaderValue = HeaderValue::from_static("1.1 bondgate");

/// Hop-by-hop fields (RFC 9110 §7.6.1), with or without a `Connection` field that names them.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields of a request that carry the caller's identity or destination, which bondgate sets itself. Some servers apply the
/// last ones in place of the method or path that was authorized.
fn is_caller_identity(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "x-bondgate-key"
            | "cookie"
            | "expect"
            | "forwarded"
            | "origin"
            | "x-forwarded"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "true-client-ip"
            | "x-http-method"
            | "x-http-method-override"
            | "x-method-override"
            | "x-original-url"
            | "x-original-host"
            | "x-rewrite-url"
    ) || name.starts_with("proxy-")
        || name.starts_with("x-forwarded-")
}

/// Fields of a response that concern the upstream's own name, which a browser would apply to bondgate's; and the field that
/// only bondgate sets.
fn is_upstream_only(name: &str) -> bool {
    matches!(
        name,
        "bondgate-redelivered"
            | "alt-svc"
            | "proxy-authenticate"
            | "set-cookie"
            | "strict-transport-security"
            | "clear-site-data"
            | "expect-ct"
            | "nel"
            | "proxy-authentication-info"
            | "public-key-pins"
            | "public-key-pins-report-only"
            | "report-to"
            | "reporting-endpoints"
            | "service-worker-allowed"
            | "set-cookie2"
            | "timing-allow-origin"
    ) || name.starts_with("access-control-")
}

/// Fields that a `Connection` field cannot remove.
static PROTECTED: [HeaderName; 4] = [HOST, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE];

/// Fields of a request that ask for part of a response, for none, or for an encoded one. The spool must hold whole
/// messages that every caller can read.
static PARTIAL_RESPONSE: [HeaderName; 8] = [
    ACCEPT_ENCODING,
    RANGE,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    HeaderName::from_static("a-im"),
];

/// Removes the fields of a pull that ask for less than a whole message.
pub(crate) fn for_whole_message(headers: &mut HeaderMap) {
    for name in &PARTIAL_RESPONSE {
        headers.remove(name);
    }
}

/// The caller's fields, ready for the upstream except for `Authorization`.
pub(crate) fn outbound(mut headers: HeaderMap, host: &HeaderValue) -> HeaderMap {
    // Some servers read `Authorization_` as `Authorization` (CVE-2025-64484).
    strip(&mut headers, |name| {
        is_caller_identity(name) || name.contains('_')
    });
    headers.insert(HOST, host.clone());
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// The upstream's fields, ready for the caller.
pub(crate) fn inbound(mut headers: HeaderMap) -> HeaderMap {
    strip(&mut headers, is_upstream_only);
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// The extensions in which hyper records the spelling of the field names and the reason phrase, and which it applies
/// when it writes the head. `OnUpgrade`, which would hand the connection over, is removed.
pub(crate) fn spelling(mut extensions: Extensions) -> Extensions {
    extensions.remove::<OnUpgrade>();
    extensions
}

/// Removes the fields of a response that contain the access token: callers must never see it.
pub(crate) fn strip_token(headers: &mut HeaderMap, authorization: &HeaderValue) {
    let token = authorization.as_bytes();
    let token = token.strip_prefix(b"Bearer ").unwrap_or(token);
    let contains_token = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.len() >= token.len() && memchr::memmem::find(value, token).is_some()
    };
    let leaking = headers.iter().filter(|(_, value)| contains_token(value));
    let names: Vec<HeaderName> = leaking.map(|(name, _)| name.clone()).collect();
    for name in names {
        tracing::warn!(
            field = name.as_str(),
            "the upstream's response contains the access token, field removed"
        );
        headers.remove(name);
    }
}

/// Removes hop-by-hop fields, the fields that `Connection` names, and other unwanted ones.
fn strip(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let mut removed = Vec::new();
    for name in headers.keys() {
        if name == CONNECTION {
            removed.extend(connection_options(headers));
        }
        if is_hop_by_hop(name.as_str()) || is_unwanted(name.as_str()) {
            removed.push(name.clone());
        }
    }
    for name in removed {
        headers.remove(name);
    }
}

/// The fields that `Connection` names.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    let lines = headers.get_all(CONNECTION).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !PROTECTED.contains(name))
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

    /// In the order of the alphabet: between different fields no other means anything.
    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    fn sent(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        outbound(headers(pairs), &HeaderValue::from_static("sb.xylem.cisco.com"))
    }

    #[test]
    fn every_connection_line_applies_and_protected_fields_stay() {
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
        assert_eq!(names(&sent), ["content-type", "host", "via", "x-c"]);
    }

    #[test]
    fn the_callers_identity_does_not_go_upstream() {
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
    fn a_field_that_contains_the_token_does_not_reach_the_caller() {
        let authorization = HeaderValue::from_static("Bearer a.token");
        let mut got = headers(&[
            (
                "www-authenticate",
                "Bearer error=\"invalid_token\", token=\"a.token\"",
            ),
            ("location", "https://elsewhere.example/?access_token=a.token&x"),
            ("x-echo", "a.token"),
            ("x-many", "other"),
            ("x-many", "Bearer a.token"),
            ("x-part", "a.toke"),
            ("server", "gateway a.toke n"),
        ]);
        strip_token(&mut got, &authorization);
        assert_eq!(names(&got), ["server", "x-part"]);
    }

    #[test]
    fn fields_about_the_upstreams_own_name_do_not_reach_the_caller() {
        let got = inbound(headers(&[
            ("connection", "close, x-a"),
            ("x-a", "1"),
            ("set-cookie", "a=b"),
            ("bondgate-redelivered", "forged"),
            ("alt-svc", "h3"),
            ("strict-transport-security", "max-age=1"),
            ("access-control-allow-origin", "*"),
            ("content-type", "application/json"),
            ("x-transaction-id", "t"),
        ]));
        assert_eq!(names(&got), ["content-type", "via", "x-transaction-id"]);
    }

    /// The rows of a table in the README: the names in the first cell, and the treatment in the second.
    fn documented(table: &str) -> Vec<(String, String)> {
        let readme = include_str!("../../../README.md");
        let text = readme.split(table).nth(1).unwrap();
        let rows = text
            .trim_start()
            .lines()
            .skip(2)
            .take_while(|line| line.starts_with('|'));
        rows.flat_map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let names = cells[1].split('`').skip(1).step_by(2);
            names
                .map(|name| (name.replace('*', "x").to_lowercase(), cells[2].to_owned()))
                .collect::<Vec<_>>()
        })
        .collect()
    }

    fn assert_treated(documented: &[(String, String)], after: impl Fn(HeaderMap) -> HeaderMap) {
        for (name, treatment) in documented {
            let name = HeaderName::try_from(name).unwrap();
            let sent = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("sent"))]);
            let left = after(sent);
            let is_there = left.get_all(&name).iter().any(|value| value == "sent");
            match treatment.split([' ', ':']).next().unwrap() {
                "dropped" => assert!(!is_there, "{name} is documented as dropped"),
                "passed" => assert!(is_there, "{name} is documented as passed"),
                "set" => assert!(
                    left.contains_key(&name) || name == AUTHORIZATION,
                    "{name} is documented as set"
                ),
                other => panic!("{other}"),
            }
        }
    }

    /// The names and prefixes in the source of a function of this file.
    fn names_in(function: &str) -> Vec<&'static str> {
        let source = include_str!("headers.rs");
        let body = source.split(function).nth(1).unwrap();
        let body = body.split("\n}\n").next().unwrap();
        let names: Vec<_> = body.split('"').skip(1).step_by(2).collect();
        assert!(names.len() > 7, "{function}: {names:?}");
        names
    }

    fn assert_all_documented(documented: &[(String, String)], functions: &[&str], except: &[&str]) {
        for name in functions.iter().flat_map(|function| names_in(function)) {
            let is_documented = documented.iter().any(|(known, _)| known.starts_with(name));
            assert!(
                is_documented || except.contains(&name),
                "not in the README: {name}"
            );
        }
    }

    #[test]
    fn the_readme_documents_what_happens_to_every_field() {
        let up = documented("Fields of the request, on the way to Cisco:");
        assert_treated(&up, |headers| {
            outbound(headers, &HeaderValue::from_static("sb.xylem.cisco.com"))
        });
        assert_all_documented(&up, &["fn is_hop_by_hop", "fn is_caller_identity"], &[]);
        let back = documented("Fields of the response, on the way back:");
        assert_treated(&back, inbound);
        assert_all_documented(
            &back,
            &["fn is_hop_by_hop", "fn is_upstream_only"],
            &["http2-settings"],
        );
        assert!(up.len() > 30 && back.len() > 25, "{} {}", up.len(), back.len());
    }
}
