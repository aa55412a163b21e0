//! A conversation on a socket, from either end of it: bytes out, HTTP messages in, and how it ended.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::confidential::Search;
use crate::harness::{Answer, PATIENCE};

/// One end of a connection.
pub(crate) struct Line<S> {
    stream: S,
    input: Vec<u8>,
    /// Searches what a daemon answers; what it sends upstream holds its token.
    search: Option<Search>,
}

/// A caller's end of a connection to the daemon.
pub(crate) type Caller = Line<TcpStream>;

/// How the other end left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// In good order.
    Closed,
    /// With a reset, or in the middle of TLS.
    Reset,
}

/// A request or an answer as it came, chunked coding undone.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its first line and fields.
    pub(crate) head: Answer,
    /// Its body.
    pub(crate) body: Vec<u8>,
    /// The lines behind the last chunk.
    pub(crate) trailers: Vec<String>,
}

impl Message {
    /// An answer's status.
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Message {
    /// Asserts that an answer is one of ours, whole and plain to machines and people.
    pub(crate) fn is_ours(&self, status: u16, what: &str) {
        let of = format!("{what:?}: {self:?}");
        assert_eq!(self.status(), status, "{of}");
        assert_eq!(
            self.field("content-type"),
            Some("application/problem+json"),
            "{of}"
        );
        let machines = self.field("proxy-status").unwrap_or_default();
        assert!(machines.starts_with("bondgate; error="), "{of}");
        assert!(
            self.field("date").is_some() && self.field("content-length").is_some(),
            "{of}"
        );
        let people: serde_json::Value = serde_json::from_str(self.text()).unwrap();
        assert_eq!(people["status"], status, "{of}");
        let message = people["message"].as_str().unwrap_or_default();
        assert!(message.starts_with("bondgate: "), "{of}");
    }

    /// The error type in `Proxy-Status`.
    pub(crate) fn error(&self) -> &str {
        let status = self.field("proxy-status").unwrap_or_default();
        let error = status.strip_prefix("bondgate; error=").unwrap_or_default();
        error.split(';').next().unwrap_or_default()
    }
}

/// Breaks a connection off, now: a socket that is closed stays open for as long as a fork elsewhere in this
/// process has it too, and its reset would come late.
pub(crate) fn reset(stream: &TcpStream) {
    rustix::net::connect_unspec(stream).unwrap();
}

impl Line<TcpStream> {
    /// Calls.
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    /// Calls over a connection that there is.
    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self {
            search: Some(Search::default()),
            ..Self::new(stream)
        }
    }

    /// The answer to a request, unless the other end closes without one.
    pub(crate) async fn try_asked(&mut self, request: &str) -> Option<Message> {
        self.stream.write_all(request.as_bytes()).await.ok()?;
        while !self.input.windows(4).any(|window| window == b"\r\n\r\n") {
            if !matches!(self.more().await, Ok(1..)) {
                return None;
            }
        }
        Some(self.message().await)
    }

    /// Sends bytes, unless the other end has gone.
    pub(crate) async fn try_say(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Leaves with a reset.
    pub(crate) fn reset(self) {
        reset(&self.stream);
    }

    /// One end to write to while the other is read.
    pub(crate) fn split(
        self,
    ) -> (
        Line<tokio::net::tcp::OwnedReadHalf>,
        tokio::net::tcp::OwnedWriteHalf,
    ) {
        let (reader, writer) = self.stream.into_split();
        let line = Line {
            stream: reader,
            input: self.input,
            search: self.search,
        };
        (line, writer)
    }
}

impl<S> Line<S> {
    /// The bare connection; nothing that came is left over.
    pub(crate) fn into_stream(self) -> S {
        assert!(self.input.is_empty());
        self.stream
    }
}

impl<S: AsyncWrite + Unpin> Line<S> {
    /// Sends bytes as they are.
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }
}

impl<S: AsyncRead + Unpin> Line<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            input: Vec::new(),
            search: None,
        }
    }

    /// The next head alone, a `100 Continue` too.
    pub(crate) async fn head(&mut self) -> Answer {
        let end = self.find(b"\r\n\r\n").await;
        Answer(String::from_utf8(self.input.drain(..end).collect()).unwrap())
    }

    /// The next message with its body.
    pub(crate) async fn message(&mut self) -> Message {
        let head = self.head().await;
        self.body_of(head).await
    }

    /// What follows a head.
    pub(crate) async fn body_of(&mut self, head: Answer) -> Message {
        let is_answer = head.0.starts_with("HTTP/");
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        if is_answer && matches!(head.status(), 100..=199 | 204 | 304) {
        } else if head.field("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.line().await;
                let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("a chunk of {line:?}"));
                if size == 0 {
                    break;
                }
                body.extend(self.take(size).await);
                assert_eq!(self.take(2).await, b"\r\n");
            }
            loop {
                match self.line().await {
                    line if line.is_empty() => break,
                    line => trailers.push(line),
                }
            }
        } else if let Some(length) = head.field("content-length") {
            body = self.take(length.parse().unwrap()).await;
        } else if is_answer {
            let (rest, end) = self.rest().await;
            assert_eq!(end, End::Closed, "an answer up to the end of the connection");
            body = rest;
        }
        Message { head, body, trailers }
    }

    /// Everything up to the end, and which end it was.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.more().await {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(_) => break End::Reset,
            }
        };
        (std::mem::take(&mut self.input), end)
    }

    /// The body after a head without a length: up to the end, or the last chunk.
    pub(crate) async fn rest_or_last_chunk(&mut self, head: &Answer) -> (Vec<u8>, End) {
        if head.field("transfer-encoding").is_none() {
            return self.rest().await;
        }
        let end = loop {
            if self.input.ends_with(b"0\r\n\r\n") {
                break End::Closed;
            }
            match self.more().await {
                Ok(0) => break End::Closed,
                Ok(_) => {}
                Err(_) => break End::Reset,
            }
        };
        (std::mem::take(&mut self.input), end)
    }

    /// Whether something follows, rather than the end.
    pub(crate) async fn has_more(&mut self) -> bool {
        !self.input.is_empty() || matches!(self.more().await, Ok(1..))
    }

    /// Asserts that the other end closed in order and sent nothing more.
    pub(crate) async fn is_over(&mut self) {
        let (rest, end) = self.rest().await;
        assert_eq!((String::from_utf8_lossy(&rest).as_ref(), end), ("", End::Closed));
    }

    /// So many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.input.len() < count {
            self.more_for(&format!("{count} bytes")).await;
        }
        self.input.drain(..count).collect()
    }

    async fn line(&mut self) -> String {
        let end = self.find(b"\r\n").await;
        let line: Vec<u8> = self.input.drain(..end).collect();
        String::from_utf8(line[..end - 2].to_vec()).unwrap()
    }

    /// Where these bytes end in the input.
    async fn find(&mut self, wanted: &[u8]) -> usize {
        loop {
            let mut windows = self.input.windows(wanted.len());
            if let Some(at) = windows.position(|window| window == wanted) {
                return at + wanted.len();
            }
            self.more_for(&format!("{:?}", String::from_utf8_lossy(wanted)))
                .await;
        }
    }

    async fn more_for(&mut self, wanted: &str) {
        let more = self.more().await;
        assert!(
            matches!(more, Ok(1..)),
            "{wanted} did not come but {more:?} after {:?}",
            String::from_utf8_lossy(&self.input)
        );
    }

    async fn more(&mut self) -> io::Result<usize> {
        let mut room = vec![0; 64 << 10];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut room)).await;
        let read = read.expect("something comes, or the end")?;
        if let Some(search) = &mut self.search {
            search.see(&room[..read]);
        }
        self.input.extend_from_slice(&room[..read]);
        Ok(read)
    }
}
