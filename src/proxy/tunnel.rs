//! CONNECT through an outbound proxy (RFC 9110 §9.3.6). Its own word is told: a refusal is for a person to
//! mend, while a gateway error passes when the upstream is back.

use std::io;

use http::uri::Authority;
use http::{HeaderValue, Uri};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What is told to the proxy.
#[derive(Clone)]
pub(super) struct Tunnel {
    /// Where the proxy is.
    pub(super) proxy: Uri,
    /// What it wants in `Proxy-Authorization`.
    pub(super) authorization: Option<HeaderValue>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    /// The proxy answered with another status than 2xx.
    #[error("the outbound proxy answered {0}")]
    Refused(u16),
    /// The proxy closed the connection.
    #[error("the outbound proxy closed the connection")]
    Closed,
    /// The proxy does not speak HTTP/1.
    #[error("what answers as outbound proxy does not speak HTTP/1")]
    Garbled,
    /// The connection to the proxy broke.
    #[error("the connection to the outbound proxy broke")]
    Io(#[from] io::Error),
}

/// The most that the head of a proxy's answer may take.
const HEAD: usize = 8 << 10;

impl Tunnel {
    /// Has the proxy connect to `to`, a host with its port, over a connection to it.
    pub(super) async fn dig<S>(self, mut stream: S, to: &Authority) -> Result<S, TunnelError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;
        stream.flush().await?;
        let mut head = Vec::new();
        loop {
            if stream.read_buf(&mut head).await? == 0 {
                return Err(TunnelError::Closed);
            }
            match status(&head)? {
                Some((200..=299, length)) if length == head.len() => return Ok(stream),
                // Upstreams do not speak first: what follows is a body, and no tunnel.
                Some((200..=299, _)) => return Err(TunnelError::Garbled),
                Some((status, _)) => return Err(TunnelError::Refused(status)),
                None if head.len() > HEAD => return Err(TunnelError::Garbled),
                None => {}
            }
        }
    }
}

impl TunnelError {
    /// Whether the same may work a moment later: the proxy itself, or its way to the upstream, fails.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Refused(status) => *status >= 500 || matches!(status, 408 | 429),
            Self::Closed | Self::Io(_) => true,
            Self::Garbled => false,
        }
    }
}

/// The status of a whole head, and the head's length.
fn status(head: &[u8]) -> Result<Option<(u16, usize)>, TunnelError> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(length)) => {
            Ok(Some((response.code.ok_or(TunnelError::Garbled)?, length)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(_) => Err(TunnelError::Garbled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of a proxy that answers with these pieces, and what it was sent.
    async fn dug(pieces: &[&[u8]]) -> (Result<(), TunnelError>, String) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let tunnel = Tunnel {
            proxy: Uri::from_static("http://proxy.corp:3128"),
            authorization: Some(HeaderValue::from_static("Basic dTpw")),
        };
        let to = "api.example:443".parse().unwrap();
        let proxy = async {
            let mut request = vec![0; 1024];
            let read = theirs.read(&mut request).await.unwrap();
            for piece in pieces {
                // It may have left after what came before.
                let _ = theirs.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            drop(theirs);
            String::from_utf8(request[..read].to_vec()).unwrap()
        };
        let (dug, asked) = tokio::join!(tunnel.dig(ours, &to), proxy);
        (dug.map(drop), asked)
    }

    #[tokio::test]
    async fn a_tunnel_is_asked_for_by_host_and_port_and_taken_at_any_2xx() {
        for pieces in [
            &[&b"HTTP/1.1 200 Connection established\r\n\r\n"[..]][..],
            &[b"HTTP/1.0 200 OK\r\nVia: x\r\n", b"\r\n"],
            &[b"HTTP/1.1 204 No Content\r\n\r\n"],
        ] {
            let (dug, asked) = dug(pieces).await;
            assert!(dug.is_ok(), "{dug:?}");
            assert_eq!(
                asked,
                "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\
                 Proxy-Authorization: Basic dTpw\r\n\r\n"
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_a_gateways_trouble_may_pass() {
        for (answer, may_pass) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], false),
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nx", false),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", true),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", true),
            (b"SSH-2.0-OpenSSH_9.6\r\n", false),
            (b"HTTP/1.1 200 OK\r\n\r\nhello", false),
            (b"HTTP/1.1 200 OK\r\n", true),
            (b"", true),
        ] {
            let (dug, _) = dug(&[answer]).await;
            let error = dug.unwrap_err();
            assert_eq!(error.may_pass(), may_pass, "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_no_proxys() {
        let field = [b"x".repeat(1024), b": y\r\n".to_vec()].concat();
        let mut pieces = vec![&b"HTTP/1.1 200 OK\r\n"[..]];
        pieces.extend(std::iter::repeat_n(&field[..], 12));
        assert!(matches!(dug(&pieces).await.0, Err(TunnelError::Garbled)));
    }
}
