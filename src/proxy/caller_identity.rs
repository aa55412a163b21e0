//! The identity of a caller: its address, its user id at a unix socket, and the name of its key.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;

use crate::config::Network;
use crate::server::{CallerId, Peer};

/// The field in which proxies record the addresses that they relay for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A caller, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Caller {
    /// The name of its key.
    pub(super) name: Option<Arc<str>>,
    /// Its address; behind trusted proxies, the one that they report.
    pub(super) address: Option<IpAddr>,
    /// The same as text.
    pub(super) address_text: Option<Arc<str>>,
    /// Its user id, at a unix socket.
    pub(super) user: Option<u32>,
    /// Whether a trusted proxy relays for it and reports its address.
    pub(super) is_relayed: bool,
}

impl Caller {
    /// The caller of a request, from its connection and from the fields of trusted proxies.
    pub(super) fn identify(peer: &Peer, headers: &HeaderMap, trusted_proxies: &[Network]) -> Self {
        let mut caller = Self {
            user: peer.user,
            ..Self::default()
        };
        let Some(direct) = peer.address.map(|address| address.ip().to_canonical()) else {
            return caller;
        };
        if !is_in(trusted_proxies, direct) {
            caller.address = Some(direct);
            caller.address_text.clone_from(&peer.address_text);
            return caller;
        }
        let lines: Vec<_> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let hops = lines
            .iter()
            .rev()
            .flat_map(|line| line.rsplit(','))
            .map(str::trim);
        let mut hops = hops.filter(|hop| !hop.is_empty()).map(parse_hop).peekable();
        // Without a reported address, the proxy's own machine may be the caller.
        caller.is_relayed = hops.peek().is_some_and(Option::is_some);
        // The first address that is no trusted proxy's. A hop without a valid address must not count as the proxy.
        let mut last = Some(direct);
        while last.is_some_and(|address| is_in(trusted_proxies, address)) {
            match hops.next() {
                Some(hop) => last = hop,
                None => break,
            }
        }
        caller.address = last;
        caller.address_text = last.map(|address| address.to_string().into());
        caller
    }

    /// The caller's name for logs and status: the name of its key, else its address or user id.
    pub(super) fn label(&self) -> Arc<str> {
        let known = self.name.as_ref().or(self.address_text.as_ref());
        match (known, self.user) {
            (Some(known), _) => known.clone(),
            (None, Some(user)) => format!("user {user}").into(),
            (None, None) => "without an address".into(),
        }
    }

    /// Whether it is on another host, as far as is known.
    pub(super) fn is_on_other_host(&self) -> bool {
        self.is_relayed || self.address.is_some_and(|address| !address.is_loopback())
    }

    /// The identity that its requests count for. A caller with a key is the same caller at every address.
    pub(super) fn id(&self) -> Option<CallerId> {
        let name = self.name.clone().map(CallerId::Name);
        name.or(self.address.map(CallerId::at))
            .or(self.user.map(CallerId::User))
    }
}

pub(super) fn is_in(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// An address in `X-Forwarded-For`; some proxies add the port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok();
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The caller's address behind a trusted proxy that sends these lines.
    fn named(lines: &[&[u8]]) -> Option<IpAddr> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
        }
        let peer = Peer {
            address: Some("[::ffff:10.9.0.1]:1".parse().unwrap()),
            ..Peer::default()
        };
        Caller::identify(
            &peer,
            &headers,
            &[Network::try_from("10.9.0.0/16".to_owned()).unwrap()],
        )
        .address
    }

    #[test]
    fn the_caller_is_the_last_hop_that_is_not_a_trusted_proxy() {
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
    fn a_hop_without_a_valid_address_does_not_count_as_the_proxy() {
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
}
