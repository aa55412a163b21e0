//! Which header fields go through, both ways: strip first, inject last.

use std::sync::LazyLock;

use http::header::{
    ACCEPT_ENCODING, ALT_SVC, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT,
    FORWARDED, HOST, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, ORIGIN,
    PROXY_AUTHENTICATE, RANGE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;

/// Where callers may put their key, beside Basic credentials.
pub(super) const CALLER_KEY: HeaderName = HeaderName::from_static("x-bondgate-key");

/// When a message was first pulled, on one that was not pulled for the request at hand: ours to say.
pub(super) const REDELIVERED: HeaderName = HeaderName::from_static("bondgate-redelivered");

/// Our name in `Via` (RFC 9110 §7.6.3).
const VIA_BONDGATE: HeaderValue = HeaderValue::from_static("1.1 bondgate");

/// Fields of one connection (RFC 9110 §7.6.1), whatever `Connection` says.
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

/// Fields that no `Connection` line can name away.
static PROTECTED: [HeaderName; 4] = [HOST, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE];

/// Fields of the caller that say who it is or where it goes; that is ours to say. The last ones make
/// some servers act on another method or path than the one that was judged.
static CALLERS_OWN: [HeaderName; 17] = [
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

/// What the names of further fields of the caller begin with.
static CALLERS_OWN_BEGINNINGS: [&str; 2] = ["proxy-", "x-forwarded-"];

/// Fields of the upstream that speak to a browser about the upstream's own name: a browser would heed them
/// for ours. And one that would speak in our name.
static UPSTREAMS_OWN: [HeaderName; 16] = [
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

/// What the names of further fields of the upstream begin with.
static UPSTREAMS_OWN_BEGINNINGS: [&str; 1] = ["access-control-"];

/// Fields of a request that make an answer part of a message, or none: what is kept for another caller
/// has to be all of it, and as anybody reads it.
static ASKS_FOR_PART: [HeaderName; 8] = [
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
    strip(&mut headers, |name| {
        // `Authorization_` reaches some servers as `Authorization` (CVE-2025-64484).
        OF_CALLERS.holds(name) || name.as_str().contains('_')
    });
    headers.insert(HOST, host.clone());
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// The upstream's fields, made ready for the caller.
pub(super) fn inbound(mut headers: HeaderMap) -> HeaderMap {
    strip(&mut headers, |name| OF_UPSTREAMS.holds(name));
    headers.append(VIA, VIA_BONDGATE);
    headers
}

/// What hyper notes of a head beside its fields, and heeds when it writes one: how the names are spelled and, of a
/// response, the reason phrase. The connection itself, to be taken over by another protocol, is not passed on.
pub(super) fn kept(mut extensions: Extensions) -> Extensions {
    extensions.remove::<OnUpgrade>();
    extensions
}

/// Takes fields out of an upstream's answer that repeat the token that it was sent, since no caller gets to
/// see one. A value that is shorter than a token costs nothing.
pub(super) fn conceal(headers: &mut HeaderMap, authorization: &HeaderValue) {
    let token = authorization.as_bytes();
    let token = token.strip_prefix(b"Bearer ").unwrap_or(token);
    let repeats = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.len() >= token.len() && memchr::memmem::find(value, token).is_some()
    };
    if headers.values().any(repeats) {
        let names: Vec<HeaderName> = headers
            .iter()
            .filter(|(_, value)| repeats(value))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            tracing::warn!(
                field = name.as_str(),
                "the upstream's answer repeats the access token; the field is dropped"
            );
            headers.remove(name);
        }
    }
}

/// Whether a request has been through here before. Proxies on the way may have changed how the name is
/// written.
pub(super) fn is_loop(headers: &HeaderMap) -> bool {
    let is_ours = |hop: &[u8]| {
        let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        words
            .nth(1)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"bondgate"))
    };
    let mut lines = headers.get_all(VIA).iter().map(HeaderValue::as_bytes);
    lines.any(|line| line.split(|byte| *byte == b',').any(is_ours))
}

/// Takes out the fields that `Connection` names, and whatever else is unwanted: one look at each name, since
/// nearly all of them stay.
fn strip(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let lines = headers.get_all(CONNECTION).iter();
    let named: Vec<HeaderName> = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !PROTECTED.contains(name))
        .collect();
    let leaves = |name: &&HeaderName| unwanted(name) || named.contains(name);
    let leaving: Vec<HeaderName> = headers.keys().filter(leaves).cloned().collect();
    for name in leaving {
        headers.remove(name);
    }
}

/// Names of fields, quick to be looked through.
struct Names {
    /// At each place those that are as long.
    by_length: Vec<Vec<HeaderName>>,
    beginnings: &'static [&'static str],
}

static OF_CALLERS: LazyLock<Names> = LazyLock::new(|| Names::new(&CALLERS_OWN, &CALLERS_OWN_BEGINNINGS));
static OF_UPSTREAMS: LazyLock<Names> =
    LazyLock::new(|| Names::new(&UPSTREAMS_OWN, &UPSTREAMS_OWN_BEGINNINGS));

impl Names {
    /// Those of one connection, and these.
    fn new(names: &[HeaderName], beginnings: &'static [&'static str]) -> Self {
        let mut by_length: Vec<Vec<HeaderName>> = Vec::new();
        for name in HOP_BY_HOP.iter().chain(names) {
            let length = name.as_str().len();
            if by_length.len() <= length {
                by_length.resize_with(length + 1, Vec::new);
            }
            by_length[length].push(name.clone());
        }
        Self {
            by_length,
            beginnings,
        }
    }

    fn holds(&self, name: &HeaderName) -> bool {
        let as_long = self.by_length.get(name.as_str().len());
        let begins = |beginning: &&str| name.as_str().starts_with(beginning);
        as_long.is_some_and(|names| names.contains(name)) || self.beginnings.iter().any(begins)
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
        assert_eq!(names(&sent), ["content-type", "host", "via", "x-c"]);
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
    fn our_own_via_is_a_loop_however_it_is_written() {
        for via in [
            "1.1 bondgate",
            "1.0 fred, 1.1 bondgate (x)",
            "1.0 fred,1.1 BondGate",
            "HTTP/1.1 bondgate",
            "1.1\tBONDGATE\t, 2 bob",
            "1.1   bondgate , 1.1 bob",
        ] {
            assert!(is_loop(&headers(&[("via", via)])), "{via}");
            assert!(is_loop(&headers(&[("via", "1.1 a"), ("via", via)])), "{via}");
        }
        let mut latin = HeaderMap::new();
        latin.append(
            VIA,
            HeaderValue::from_bytes(b"1.1 caf\xe9, 1.1 bondgate").unwrap(),
        );
        assert!(is_loop(&latin));
        for via in [
            "1.1 bondgate2",
            "bondgate",
            "1.1 a.bondgate",
            "1.1 x bondgate",
            "",
        ] {
            assert!(!is_loop(&headers(&[("via", via)])), "{via}");
        }
    }

    #[test]
    fn a_field_that_repeats_the_token_does_not_come_back() {
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
        conceal(&mut got, &authorization);
        assert_eq!(names(&got), ["server", "x-part"]);
    }

    #[test]
    fn what_the_upstream_says_of_its_own_name_stays_behind() {
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

    /// The rows of a table in the README: the names in the first cell, and what the second says of them.
    fn told(table: &str) -> Vec<(String, String)> {
        let readme = include_str!("../../README.md");
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

    fn assert_told(
        told: &[(String, String)],
        dropped: &[HeaderName],
        beginnings: &[&str],
        after: impl Fn(HeaderMap) -> HeaderMap,
    ) {
        for (name, said) in told {
            let name = HeaderName::try_from(name).unwrap();
            let sent = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("sent"))]);
            let left = after(sent);
            let is_there = left.get_all(&name).iter().any(|value| value == "sent");
            match said.split([' ', ':']).next().unwrap() {
                "dropped" => assert!(!is_there, "{name} is said to be dropped"),
                "passed" => assert!(is_there, "{name} is said to be passed"),
                "set" => assert!(
                    left.contains_key(&name) || name == AUTHORIZATION,
                    "{name} is said to be set"
                ),
                other => panic!("{other}"),
            }
        }
        let is_told = |wanted: &str| told.iter().any(|(name, _)| name.starts_with(wanted));
        let names = dropped
            .iter()
            .map(HeaderName::as_str)
            .chain(beginnings.iter().copied());
        let untold: Vec<_> = names.filter(|name| !is_told(name)).collect();
        assert!(untold.is_empty(), "the README does not tell of {untold:?}");
    }

    #[test]
    fn the_readme_tells_of_every_field_what_becomes_of_it() {
        let up = told("Fields of the request, on the way to Cisco:");
        let dropped = [&HOP_BY_HOP[..], &CALLERS_OWN].concat();
        assert_told(&up, &dropped, &CALLERS_OWN_BEGINNINGS, |headers| {
            outbound(headers, &HeaderValue::from_static("sb.xylem.cisco.com"))
        });
        let back = told("Fields of the answer, on the way back:");
        let unsent = ["http2-settings"];
        let dropped: Vec<_> = HOP_BY_HOP
            .clone()
            .into_iter()
            .chain(UPSTREAMS_OWN.clone())
            .filter(|name| !unsent.contains(&name.as_str()))
            .collect();
        assert_told(&back, &dropped, &UPSTREAMS_OWN_BEGINNINGS, inbound);
        assert!(up.len() > 30 && back.len() > 25, "{} {}", up.len(), back.len());
    }
}
