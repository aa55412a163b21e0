//! Which header fields are passed on, in both directions. Everything unwanted is removed first; our own fields are set
//! last.

use http::header::{
    ACCEPT_ENCODING, ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, ORIGIN,
    PROXY_AUTHENTICATE, RANGE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
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
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Fields that a `Connection` field cannot remove.
static PROTECTED: [HeaderName; 4] = [HOST, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE];

/// Fields of a request that carry the caller's identity or destination, which bondgate sets itself. Some servers apply the
/// last ones in place of the method or path that was authorized.
static CALLER_IDENTITY: [HeaderName; 17] = [
    AUTHORIZATION,
    CALLER_KEY,
    COOKIE,
    EXPECT,
    FORWARDED,
    ORIGIN,
    HeaderName::from_static("x-forwarded"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-client-ip"),
    HeaderName::from_static("x-cluster-client-ip"),
    HeaderName::from_static("true-client-ip"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-original-host"),
    HeaderName::from_static("x-rewrite-url"),
];

static CALLER_IDENTITY_PREFIXES: [&str; 2] = ["proxy-", "x-forwarded-"];

/// Fields of a response that concern the upstream's own name, which a browser would apply to ours; and the field that
/// only bondgate sets.
static UPSTREAM_ONLY: [HeaderName; 16] = [
    REDELIVERED,
    ALT_SVC,
    PROXY_AUTHENTICATE,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("expect-ct"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("public-key-pins"),
    HeaderName::from_static("public-key-pins-report-only"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    HeaderName::from_static("service-worker-allowed"),
    HeaderName::from_static("set-cookie2"),
    HeaderName::from_static("timing-allow-origin"),
];

static UPSTREAM_ONLY_PREFIXES: [&str; 1] = ["access-control-"];

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
    strip(&mut headers, |name| {
        // Some servers read `Authorization_` as `Authorization` (CVE-2025-64484).
        is_listed(name, &CALLER_IDENTITY, &CALLER_IDENTITY_PREFIXES) || name.as_str().contains('_')
    });
    headers.insert(HOST, host.clone());
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// The upstream's fields, ready for the caller.
pub(crate) fn inbound(mut headers: HeaderMap) -> HeaderMap {
    strip(&mut headers, |name| {
        is_listed(name, &UPSTREAM_ONLY, &UPSTREAM_ONLY_PREFIXES)
    });
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// What hyper records about a head beside its fields and applies when it writes the head: the spelling of the field names
/// and the reason phrase of a response. Never passes on a connection to take over.
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
    if !headers.values().any(contains_token) {
        return;
    }
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
fn strip(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let lines = headers.get_all(CONNECTION).iter();
    let named: Vec<HeaderName> = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !PROTECTED.contains(name))
        .collect();
    let is_removed =
        |name: &&HeaderName| HOP_BY_HOP.contains(name) || is_unwanted(name) || named.contains(name);
    let removed: Vec<HeaderName> = headers.keys().filter(is_removed).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

fn is_listed(name: &HeaderName, names: &[HeaderName], prefixes: &[&str]) -> bool {
    names.contains(name) || prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
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

    fn assert_documented(
        documented: &[(String, String)],
        dropped: &[HeaderName],
        prefixes: &[&str],
        after: impl Fn(HeaderMap) -> HeaderMap,
    ) {
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
        let is_documented = |wanted: &str| documented.iter().any(|(name, _)| name.starts_with(wanted));
        let names = dropped
            .iter()
            .map(HeaderName::as_str)
            .chain(prefixes.iter().copied());
        let missing: Vec<_> = names.filter(|name| !is_documented(name)).collect();
        assert!(missing.is_empty(), "not in the README: {missing:?}");
    }

    #[test]
    fn the_readme_documents_what_happens_to_every_field() {
        let up = documented("Fields of the request, on the way to Cisco:");
        let dropped = [&HOP_BY_HOP[..], &CALLER_IDENTITY].concat();
        assert_documented(&up, &dropped, &CALLER_IDENTITY_PREFIXES, |headers| {
            outbound(headers, &HeaderValue::from_static("sb.xylem.cisco.com"))
        });
        let back = documented("Fields of the answer, on the way back:");
        let unsent = ["http2-settings"];
        let dropped: Vec<_> = HOP_BY_HOP
            .clone()
            .into_iter()
            .chain(UPSTREAM_ONLY.clone())
            .filter(|name| !unsent.contains(&name.as_str()))
            .collect();
        assert_documented(&back, &dropped, &UPSTREAM_ONLY_PREFIXES, inbound);
        assert!(up.len() > 30 && back.len() > 25, "{} {}", up.len(), back.len());
    }
}
