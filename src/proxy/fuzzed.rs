//! Properties of every path and of every set of header fields, checked by the fuzzer and by the replay of its corpus.

use std::sync::OnceLock;

use http::header::{AUTHORIZATION, CONNECTION, HOST, TRANSFER_ENCODING, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::authorization::{PlainPath, is_loop};
use super::forward::headers;
use crate::config::Config;
use crate::telemetry::metrics::UpstreamConnections;
use crate::tls;
use crate::upstream::{Network, UpstreamClient};

/// A valid path is sent as it was validated, and no usual normalisation changes it.
pub fn path(data: &[u8]) {
    let Some(uri) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| Uri::try_from(text).ok())
    else {
        return;
    };
    let path = uri.path();
    if uri.scheme().is_some() || !path.starts_with('/') || PlainPath::parse(path).is_err() {
        return;
    }
    let sent = upstream().target(&uri).expect("a valid path can be sent");
    assert_eq!(sent.path(), path);
    assert_eq!(sent.query(), uri.query());
    assert_eq!((sent.scheme(), sent.authority()), (None, None));
    let whatwg = reqwest::Url::parse(&format!("https://api.example{sent}"))
        .expect("it is a URL for browsers' libraries too");
    assert_eq!(
        (whatwg.host_str(), whatwg.path()),
        (Some("api.example"), path),
        "WHATWG"
    );
    assert_eq!(without_dot_segments(path), path, "RFC 3986 §5.2.4");
}

/// Neither hop-by-hop fields nor credentials are passed on, in either direction.
pub fn fields(data: &[u8]) {
    let mut parsed = [httparse::EMPTY_HEADER; 64];
    let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(data, &mut parsed) else {
        return;
    };
    let mut map = HeaderMap::new();
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            map.append(name, value);
        }
    }
    let host = HeaderValue::from_static("api.example");
    let out = headers::outbound(map.clone(), &host);
    assert!(!out.contains_key(AUTHORIZATION) && !out.contains_key(CONNECTION));
    assert!(!out.contains_key(TRANSFER_ENCODING));
    assert_eq!(out.get_all(HOST).iter().collect::<Vec<_>>(), [&host]);
    assert_eq!(
        out.get_all(VIA).iter().next_back().map(HeaderValue::as_bytes),
        Some(&b"1.1 bondgate"[..])
    );
    assert!(is_loop(&out));
    for name in out.keys().map(HeaderName::as_str) {
        let is_callers = name.starts_with("proxy-") || name.starts_with("x-forwarded-") || name.contains('_');
        assert!(!is_callers && name != "cookie" && name != "forwarded", "{name}");
    }
    let back = headers::inbound(map);
    for name in back.keys().map(HeaderName::as_str) {
        let is_upstreams = name.starts_with("access-control-") || name == "set-cookie";
        assert!(
            !is_upstreams && name != "connection" && name != "transfer-encoding",
            "{name}"
        );
    }
}

fn upstream() -> &'static UpstreamClient {
    static UPSTREAM: OnceLock<UpstreamClient> = OnceLock::new();
    UPSTREAM.get_or_init(|| {
        let text = "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n\
                    client_secret = \"secret\"\nurl = \"https://api.example\"\n";
        let config = Config::parse(text, "fuzzed.toml", []).expect("this is a configuration");
        let tls = tls::client(None).expect("the machine has certificates");
        UpstreamClient::new(
            &config.upstreams[0],
            Network::new(tls),
            UpstreamConnections::default(),
        )
        .expect("there is no outbound proxy")
    })
}

fn without_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}
