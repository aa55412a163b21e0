//! CONNECT through an outbound proxy (RFC 9110 §9.3.6).

use std::io;

use http::HeaderValue;
use http::uri::Authority;
use httparse::Status;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why the outbound proxy opened no tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum TunnelError {
    /// It returned a status that is neither 2xx nor 3xx, and offers this login.
    #[error("the outbound proxy returned {0}")]
    Refused(u16, ProxyLogin),
    /// It redirects to another place.
    #[error("the outbound proxy redirects to {0}")]
    Redirects(String),
    /// It closed the connection.
    #[error("the outbound proxy closed the connection")]
    Closed,
    /// It does not speak HTTP/1.
    #[error("the outbound proxy does not speak HTTP/1")]
    NotHttp,
    /// The connection to it broke.
    #[error("the connection to the outbound proxy broke")]
    Io(#[from] io::Error),
}

/// The kind of login that an outbound proxy offers (`Proxy-Authenticate`, RFC 9110 §11.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProxyLogin {
    /// Basic, which bondgate speaks, perhaps among others.
    Basic,
    /// Only these.
    Other(String),
    /// It names none.
    Unnamed,
}

impl TunnelError {
    /// Whether the proxy has refused the login, perhaps because it offers others only.
    pub(super) fn is_refused_login(&self) -> bool {
        matches!(self, Self::Refused(407, _))
    }

    /// Whether another attempt may succeed: the proxy, or its connection to the upstream, failed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Refused(status, _) => *status >= 500 || matches!(status, 408 | 429),
            Self::Closed | Self::Io(_) => true,
            Self::Redirects(_) | Self::NotHttp => false,
        }
    }
}

/// The longest response head that is read.
const MAX_HEAD: usize = 8 << 10;

/// Makes the proxy at the other end of `stream` connect it to `to`.
pub(super) async fn open<S>(
    stream: &mut S,
    to: &Authority,
    authorization: Option<&HeaderValue>,
) -> Result<(), TunnelError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
    if let Some(authorization) = authorization {
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
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        match response.parse(&head) {
            Ok(Status::Complete(length)) => return check(&response, length == head.len()),
            Ok(Status::Partial) if head.len() <= MAX_HEAD => {}
            _ => return Err(TunnelError::NotHttp),
        }
    }
}

/// Checks the complete head of a response; `is_all` if nothing follows it.
fn check(response: &httparse::Response<'_, '_>, is_all: bool) -> Result<(), TunnelError> {
    match response.code {
        Some(200..=299) if is_all => Ok(()),
        // An upstream never speaks first, so what follows is a body and not a tunnel.
        Some(200..=299) | None => Err(TunnelError::NotHttp),
        Some(300..=399) => {
            let location = values(response, "location").next().unwrap_or_default();
            // A query may hold the user's name.
            let location = location.split(['?', '#']).next().unwrap_or_default();
            Err(TunnelError::Redirects(location.chars().take(200).collect()))
        }
        Some(status) => Err(TunnelError::Refused(status, offered_login(response))),
    }
}

fn offered_login(response: &httparse::Response<'_, '_>) -> ProxyLogin {
    // A field lists challenges, each a scheme with parameters.
    let lines: Vec<String> = values(response, "proxy-authenticate")
        .map(|line| unquoted(&line))
        .collect();
    let parts = lines.iter().flat_map(|line| line.split(','));
    let words = parts.filter_map(|part| part.split_whitespace().next());
    let schemes: Vec<&str> = words.filter(|word| !word.contains('=')).collect();
    match &schemes[..] {
        [] => ProxyLogin::Unnamed,
        some if some.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) => ProxyLogin::Basic,
        some => ProxyLogin::Other(some.join(" and ").chars().take(100).collect()),
    }
}

/// The text without its quoted strings, which may contain commas.
fn unquoted(text: &str) -> String {
    text.split('"').step_by(2).collect()
}

/// The values of a field, without characters that are not visible.
fn values(response: &httparse::Response<'_, '_>, name: &str) -> impl Iterator<Item = String> {
    let fields = response
        .headers
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name));
    fields.map(|field| {
        field
            .value
            .iter()
            .map(|byte| char::from(*byte))
            .filter(|c| matches!(c, ' '..='~'))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a tunnel through a proxy that sends these pieces; returns what the proxy received, too.
    async fn open_through(pieces: &[&[u8]]) -> (Result<(), TunnelError>, String) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        let to = "api.example:443".parse().unwrap();
        let authorization = HeaderValue::from_static("Basic dTpw");
        let proxy = async {
            let mut request = vec![0; 1024];
            let read = theirs.read(&mut request).await.unwrap();
            for piece in pieces {
                // The client may have closed the connection after an earlier piece.
                let _ = theirs.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            drop(theirs);
            String::from_utf8(request[..read].to_vec()).unwrap()
        };
        let client = async {
            let opened = open(&mut ours, &to, Some(&authorization)).await;
            drop(ours);
            opened
        };
        tokio::join!(client, proxy)
    }

    #[tokio::test]
    async fn a_tunnel_is_requested_by_host_and_port_and_opened_by_any_2xx() {
        for pieces in [
            &[&b"HTTP/1.1 200 Connection established\r\n\r\n"[..]][..],
            &[b"HTTP/1.0 200 OK\r\nVia: x\r\n", b"\r\n"],
            &[b"HTTP/1.1 204 No Content\r\n\r\n"],
        ] {
            let (opened, request) = open_through(pieces).await;
            assert!(opened.is_ok(), "{opened:?}");
            assert_eq!(
                request,
                "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\
                 Proxy-Authorization: Basic dTpw\r\n\r\n"
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_a_gateway_error_is_transient() {
        for (response, is_transient) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], false),
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nx", false),
            (b"HTTP/1.1 408 Request Timeout\r\n\r\n", true),
            (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", true),
            (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", true),
            (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", true),
            (b"SSH-2.0-OpenSSH_9.6\r\n", false),
            (b"HTTP/1.1 200 OK\r\n\r\nhello", false),
            (b"HTTP/1.1 200 OK\r\n", true),
            (b"", true),
        ] {
            let error = open_through(&[response]).await.0.unwrap_err();
            assert_eq!(error.is_transient(), is_transient, "{error:?}");
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_not_http() {
        let field = [b"x".repeat(1024), b": y\r\n".to_vec()].concat();
        let mut pieces = vec![&b"HTTP/1.1 200 OK\r\n"[..]];
        pieces.extend(std::iter::repeat_n(&field[..], 12));
        assert!(matches!(open_through(&pieces).await.0, Err(TunnelError::NotHttp)));
    }

    #[tokio::test]
    async fn the_logins_of_a_refusal_are_read_without_what_is_in_quotes() {
        for (field, login) in [
            (
                "Digest realm=\"Corp, basic users\", qop=\"auth, auth-int\"",
                ProxyLogin::Other("Digest".to_owned()),
            ),
            (
                "Negotiate, NTLM",
                ProxyLogin::Other("Negotiate and NTLM".to_owned()),
            ),
            ("NTLM, Basic realm=\"x\"", ProxyLogin::Basic),
        ] {
            let head = format!("HTTP/1.1 407 P\r\nProxy-Authenticate: {field}\r\n\r\n");
            let (opened, _) = open_through(&[head.as_bytes()]).await;
            assert!(
                matches!(opened, Err(TunnelError::Refused(407, found)) if found == login),
                "{field}"
            );
        }
    }
}
