//! Reads along on a connection and keeps every request head as it was on the wire, for the record.
//!
//! What hyper hands to a service has its header lines grouped by name and its target parsed. So the tap follows the
//! framing itself: heads, bodies of a known length, and chunked ones.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::Link;

/// More header lines than hyper lets through.
const MOST_HEADERS: usize = 128;

/// A request head byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawHead {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) version: &'static str,
    pub(super) headers: Vec<(String, String)>,
}

impl From<&Parts> for RawHead {
    fn from(parts: &Parts) -> Self {
        RawHead {
            method: parts.method.to_string(),
            target: parts.uri.to_string(),
            version: version(parts.version == http::Version::HTTP_11),
            headers: parts
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), latin1(value.as_bytes())))
                .collect(),
        }
    }
}

/// Follows a connection's requests through its bytes.
#[derive(Debug, Default)]
pub(super) struct Framing {
    part: Part,
    line: Vec<u8>,
    heads: VecDeque<RawHead>,
}

#[derive(Debug, Default, PartialEq)]
enum Part {
    #[default]
    Head,
    Bytes {
        left: u64,
        then: Next,
    },
    ChunkSize,
    Trailers,
    /// The bytes are no HTTP; hyper ends the connection.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    Head,
    ChunkSize,
}

impl Framing {
    /// The oldest head that has not been asked for yet.
    pub(super) fn next_head(&mut self) -> Option<RawHead> {
        self.heads.pop_front()
    }

    pub(super) fn feed(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            match &mut self.part {
                Part::Head => {
                    let before = self.line.len();
                    self.line.extend_from_slice(input);
                    match parsed(&self.line) {
                        Parsed::Partial => return,
                        Parsed::Whole(length, head, part) => {
                            self.heads.push_back(head);
                            self.part = part;
                            self.line.clear();
                            input = &input[length - before..];
                        }
                        Parsed::Nonsense => self.part = Part::Lost,
                    }
                }
                Part::Bytes { left, then } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    input = &input[taken..];
                    *left -= taken as u64;
                    if *left == 0 {
                        self.part = match then {
                            Next::Head => Part::Head,
                            Next::ChunkSize => Part::ChunkSize,
                        };
                    }
                }
                Part::ChunkSize => {
                    let Some(line) = self.line(&mut input) else {
                        return;
                    };
                    self.part = match chunk_size(&line) {
                        Some(0) => Part::Trailers,
                        Some(size) => Part::Bytes {
                            left: size.saturating_add(2),
                            then: Next::ChunkSize,
                        },
                        None => Part::Lost,
                    };
                }
                Part::Trailers => {
                    let Some(line) = self.line(&mut input) else {
                        return;
                    };
                    if line.is_empty() {
                        self.part = Part::Head;
                    }
                }
                Part::Lost => return,
            }
        }
    }

    /// The next line without its ending, once it is whole.
    fn line(&mut self, input: &mut &[u8]) -> Option<Vec<u8>> {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(input);
            return None;
        };
        self.line.extend_from_slice(&input[..end]);
        *input = &input[end + 1..];
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some(line)
    }
}

enum Parsed {
    Partial,
    Whole(usize, RawHead, Part),
    Nonsense,
}

fn parsed(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Err(_) => return Parsed::Nonsense,
    };
    let named = |name: &'static str| {
        let headers = request.headers.iter();
        headers.filter(move |header| header.name.eq_ignore_ascii_case(name))
    };
    let chunked = named("transfer-encoding").next().is_some();
    let content_length = named("content-length")
        .next()
        .and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
    let part = match content_length {
        _ if chunked => Part::ChunkSize,
        Some(left @ 1..) => Part::Bytes {
            left,
            then: Next::Head,
        },
        _ => Part::Head,
    };
    let head = RawHead {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        version: version(request.version == Some(1)),
        headers: request
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), latin1(header.value)))
            .collect(),
    };
    Parsed::Whole(length, head, part)
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 16).ok()
}

fn version(is_1_1: bool) -> &'static str {
    if is_1_1 { "HTTP/1.1" } else { "HTTP/1.0" }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// A stream that reads along, and says when what was written has left.
#[derive(Debug)]
pub(super) struct Tap<S> {
    stream: S,
    link: Arc<Link>,
}

impl<S> Tap<S> {
    pub(super) fn new(stream: S, link: Arc<Link>) -> Self {
        Tap { stream, link }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tap<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.link.feed(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tap<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.link.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: &[u8] =
        b"POST /a?x=%2F HTTP/1.1\r\nB: 1\r\na: \xe9\r\nb: 2\r\nContent-Length: 5\r\n\r\nGET /\
        \r\nPUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1b;q=1\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\
        \r\n0\r\nTrailer: 1\r\n\r\nGET /c HTTP/1.0\r\n\r\n";

    fn targets(framing: &mut Framing) -> Vec<String> {
        std::iter::from_fn(|| framing.next_head())
            .map(|head| head.target)
            .collect()
    }

    #[test]
    fn heads_are_found_between_bodies_however_the_bytes_are_cut() {
        for size in 1..REQUESTS.len() {
            let mut framing = Framing::default();
            for piece in REQUESTS.chunks(size) {
                framing.feed(piece);
            }
            assert_eq!(targets(&mut framing), ["/a?x=%2F", "/b", "/c"], "{size}");
            assert_eq!(framing.part, Part::Head);
        }
    }

    #[test]
    fn header_lines_keep_their_order_case_and_bytes() {
        let mut framing = Framing::default();
        framing.feed(REQUESTS);
        let head = framing.next_head().unwrap();
        let lines: Vec<_> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            lines,
            [("B", "1"), ("a", "é"), ("b", "2"), ("Content-Length", "5")]
        );
    }

    #[test]
    fn nonsense_is_no_head() {
        let mut framing = Framing::default();
        framing.feed(b"\x16\x03\x01\x00 no http\r\n\r\nGET / HTTP/1.1\r\n\r\n");
        assert_eq!(framing.next_head(), None);
    }
}
