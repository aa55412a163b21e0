//! Why a request got no response, and whether the upstream may have executed it.

use crate::problems::Problem;

/// A request that got no response. Displays the problem.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No byte of the request was sent: it was not executed.
    #[error(transparent)]
    NotSent(#[from] ConnectError),
    /// The request may have been executed.
    #[error("{problem}")]
    Broken {
        /// How the exchange ended.
        kind: BrokenKind,
        /// What happened, and the fix.
        problem: Problem,
    },
}

/// How an exchange ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenKind {
    /// The upstream closed the connection without a response.
    Closed,
    /// The connection broke.
    Terminated,
    /// The head of the response is too large.
    HeadTooLarge,
    /// The response is not HTTP/1.1.
    NotHttp,
    /// The response has a transfer coding other than `chunked`.
    TransferCoding,
}

/// Why there is no connection to the upstream. No byte of a request was sent. Displays the problem.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct ConnectError {
    /// The step that failed.
    pub kind: ConnectErrorKind,
    /// What happened, and the fix.
    pub problem: Problem,
    /// Whether another attempt is useless before a person changes something.
    pub(super) is_final: bool,
}

/// The step that failed on the way to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// No name server has responded.
    DnsTimeout,
    /// The name has no address.
    Dns,
    /// No response in time, from the host or the proxy.
    Timeout,
    /// The host refused the connection, or the proxy the tunnel.
    Refused,
    /// Another failure of TCP.
    Unreachable,
    /// The connection to the proxy broke.
    ProxyTerminated,
    /// The certificate was refused.
    Certificate,
    /// The host ended the TLS handshake by an alert.
    TlsAlert,
    /// The TLS handshake failed otherwise.
    Tls,
}

impl ConnectErrorKind {
    /// The name in metrics: that of the error type in the responses to callers (RFC 9209).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DnsTimeout => "dns_timeout",
            Self::Dns => "dns_error",
            Self::Timeout => "connection_timeout",
            Self::Refused => "connection_refused",
            Self::Unreachable => "destination_unavailable",
            Self::ProxyTerminated => "connection_terminated",
            Self::Certificate => "tls_certificate_error",
            Self::TlsAlert => "tls_alert_received",
            Self::Tls => "tls_protocol_error",
        }
    }
}
