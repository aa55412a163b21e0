//! The way to a host, for calls whose client hides which step of connecting failed, and for checks.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio_util::either::Either;

use super::connector::{Connector, Network};
use super::error::ConnectError;
use crate::config::{Endpoint, ProxyRoute};

/// The way to a host: its name or the outbound proxy's, TCP, CONNECT, TLS.
pub struct Way(Connector);

impl Way {
    /// The way to `endpoint`, for calls of a kind that errors name.
    #[must_use]
    pub fn new(
        call: &'static str,
        endpoint: &Endpoint,
        route: Option<ProxyRoute>,
        timeout: Duration,
        network: Network,
    ) -> Self {
        Self(Connector::new(call, endpoint, route, timeout, network))
    }

    /// The host that is resolved and connected to first: the outbound proxy, or else the host itself.
    #[must_use]
    pub fn first_hop(&self) -> &str {
        self.0.first_hop()
    }

    /// Whether it leads through the outbound proxy.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.0.is_proxied()
    }

    /// Waits until the name of the first hop has a known address.
    pub async fn resolve(&self) -> Result<(), ConnectError> {
        self.0.resolve().await
    }

    /// Connects and disconnects. Returns the certificates of the host; none over plain HTTP.
    pub async fn walk(&self) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
        self.0.resolve().await?;
        let Either::Right(stream) = self.0.try_once().await? else {
            return Ok(Vec::new());
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        Ok(chain
            .iter()
            .map(|certificate| certificate.clone().into_owned())
            .collect())
    }
}
