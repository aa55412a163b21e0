//! Who a caller is: its address, and the key that it shows.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;

use super::headers::CALLER_KEY;
use crate::config::{CallerKey, CallerKeys, Network};
use crate::server::{CallerId, Peer};

/// A caller that was let in, as logs call it.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// The name that goes with its key.
    pub(super) name: Option<String>,
    /// Its address, behind trusted proxies the one that they name.
    pub(super) address: Option<IpAddr>,
    /// Its user id, at a unix socket.
    pub(super) user: Option<u32>,
    /// A trusted proxy relays for it, and names it.
    pub(super) is_relayed: bool,
}

impl Caller {
    /// What it is called: the name that goes with its key, or else its address or user id.
    pub(super) fn label(&self) -> String {
        match (&self.name, self.address, self.user) {
            (Some(name), _, _) => name.clone(),
            (None, Some(address), _) => address.to_string(),
            (None, None, Some(user)) => format!("user {user}"),
            (None, None, None) => "without an address".to_owned(),
        }
    }

    /// Whom its requests are counted for: whoever has a key is known by its name wherever it is.
    pub(super) fn id(&self) -> Option<CallerId> {
        let name = self.name.as_deref().map(|name| CallerId::Name(name.into()));
        name.or(self.address.map(CallerId::at))
            .or(self.user.map(CallerId::User))
    }
}

/// The caller's address: the socket's, or the last one in `X-Forwarded-For` that no trusted proxy has.
/// Nothing for a unix socket, or where a trusted proxy names somebody by no address.
pub(super) fn address(peer: &Peer, headers: &HeaderMap, trusted_proxies: &[Network]) -> Option<IpAddr> {
    let direct = peer.address?.ip().to_canonical();
    let is_trusted = |address: &IpAddr| is_in(trusted_proxies, *address);
    if !is_trusted(&direct) {
        return Some(direct);
    }
    let lines: Vec<_> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    let mut last = direct;
    for named in hops.map(str::trim).filter(|named| !named.is_empty()) {
        // Taken for the proxy, it would come in where the proxy may.
        last = hop(named)?;
        if !is_trusted(&last) {
            break;
        }
    }
    Some(last)
}

/// Whether a request comes from a trusted proxy that names the caller by its address. Without the name it may be the
/// proxy's own machine that calls.
pub(super) fn is_relayed(peer: &Peer, headers: &HeaderMap, trusted_proxies: &[Network]) -> bool {
    let direct = peer.address.map(|address| address.ip().to_canonical());
    direct.is_some_and(|direct| is_in(trusted_proxies, direct)) && {
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        let mut named = lines
            .flat_map(|line| line.to_str().unwrap_or("?").rsplit(','))
            .map(str::trim)
            .filter(|named| !named.is_empty());
        named.next().is_some_and(|named| hop(named).is_some())
    }
}

fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// Whether a request shows anything that could be a key.
pub(super) fn shows_key(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.contains_key(CALLER_KEY)
}

/// Looks at every key, and at each to its end, so that time tells nothing.
pub(super) fn find_key<'a>(keys: &'a CallerKeys, headers: &HeaderMap) -> Option<&'a CallerKey> {
    let basic = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("basic").then_some(())?;
        BASE64_STANDARD.decode(encoded.trim()).ok()
    });
    let bare = headers.get(CALLER_KEY).map(http::HeaderValue::as_bytes);
    let mut found = None;
    for key in keys.iter() {
        let is_pair = basic.as_ref().is_some_and(|given| given.ct_eq(key.pair()).into());
        let is_key = bare.is_some_and(|given| given.ct_eq(key.key()).into());
        if is_pair | is_key {
            found = Some(key);
        }
    }
    found
}

/// An address in `X-Forwarded-For`: some proxies write the port too.
fn hop(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn keys() -> CallerKeys {
        CallerKeys::parse(&secrecy::SecretString::from("a:b".to_owned())).unwrap()
    }

    /// The caller's address behind a trusted proxy that says this.
    fn named(lines: &[&[u8]]) -> Option<IpAddr> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_bytes(line).unwrap());
        }
        let peer = Peer {
            address: Some("[::ffff:10.9.0.1]:1".parse().unwrap()),
            user: None,
            has_certificate: false,
        };
        address(
            &peer,
            &headers,
            &[Network::try_from("10.9.0.0/16".to_owned()).unwrap()],
        )
    }

    #[test]
    fn the_caller_is_the_last_hop_that_is_no_trusted_proxy() {
        let caller = "10.1.2.3".parse().ok();
        for lines in [
            &[&b"10.1.2.3"[..]][..],
            &[b"10.1.2.3:4711"],
            &[b"[::ffff:10.1.2.3]:4711"],
            &[b"::ffff:10.1.2.3"],
            &[b"[::ffff:10.1.2.3]"],
            &[b"9.9.9.9, 10.1.2.3"],
            &[b"9.9.9.9,10.1.2.3 , ,\t10.9.0.7:80,"],
            &[b"9.9.9.9", b"10.1.2.3, 10.9.0.7", b"10.9.0.8"],
            &[b"\xff, 10.1.2.3"],
        ] {
            assert_eq!(named(lines), caller, "{lines:?}");
        }
        let proxy = "10.9.0.1".parse().ok();
        for lines in [&[][..], &[&b""[..]], &[b" , "]] {
            assert_eq!(named(lines), proxy, "{lines:?}");
        }
        assert_eq!(named(&[b"10.9.0.8, 10.9.0.7"]), "10.9.0.8".parse().ok());
    }

    #[test]
    fn who_is_named_by_no_address_is_not_taken_for_the_proxy() {
        for line in [
            &b"unknown"[..],
            b"10.1.2.3, junk",
            b"_hidden",
            b"10.1.2.3.4",
            b"10.1.2.3:",
            b"10.1.2.3:99999",
            b"\xff",
            b"for=10.1.2.3",
            b"1.1.1.1, 10.9.0.7, junk, 10.9.0.8",
        ] {
            assert_eq!(named(&[line]), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_no_key() {
        for name in [CALLER_KEY, AUTHORIZATION] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_bytes(b"\xff").unwrap())]);
            assert!(find_key(&keys(), &headers).is_none());
        }
    }
}
