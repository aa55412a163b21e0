//! What only a bound socket shows: which port it has, and who can reach it.

use std::net::SocketAddr;

use super::StartError;
use crate::config::{ListenAddress, Upstream};
use crate::server::Listener;

/// An inherited socket is judged by the address that it turns out to have.
pub(super) fn judge_exposure(
    bound: &Listener,
    address: &ListenAddress,
    is_gated: bool,
) -> Result<(), StartError> {
    if bound.is_local() || is_gated {
        Ok(())
    } else {
        Err(StartError::Exposed(address.clone()))
    }
}

/// Which port it is, and what was inherited, is known only now.
pub(super) fn judge_loop(bound: &[SocketAddr], upstreams: &[Upstream]) -> Result<(), StartError> {
    for address in bound.iter().copied().map(ListenAddress::Socket) {
        for upstream in upstreams {
            for (key, endpoint) in [("url", &upstream.url), ("token_url", &upstream.token_url)] {
                if address.is_reached_by(endpoint) {
                    let upstream = upstream.name.clone();
                    return Err(StartError::Loop {
                        upstream,
                        key,
                        address,
                    });
                }
            }
        }
    }
    Ok(())
}
