//! A caller that pulls until its queue is empty and records what it gets, as an ITSM tool's job does.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Answer, PATIENCE, PULL};

/// How a caller uses its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connections {
    /// One for each request, closed after the response, as curl does.
    OneShot,
    /// One for all requests, for as long as the other end keeps it.
    KeepAlive,
}

pub(super) struct Caller {
    to: SocketAddr,
    connections: Connections,
    kept: Option<TcpStream>,
}

/// What a caller got.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The tickets in the order of their responses.
    pub(super) tickets: Vec<usize>,
    /// Responses with status 503.
    pub(super) refused: usize,
    /// Responses that were not whole, and those that are neither a ticket nor "No messages" nor a 503.
    pub(super) broken: Vec<String>,
    /// Whether the end was "No messages" and not the caller's limit.
    pub(super) is_emptied: bool,
}

enum Response {
    Ticket(usize),
    Empty,
    Refused,
    Broken(String),
}

/// Another address than the intermediaries', so that X-Forwarded-For names nobody that is trusted.
const CALLER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// A caller that was refused tries again after this, whatever Retry-After says: the pauses are shortened too.
const RETRY: Duration = Duration::from_millis(50);

impl Connections {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OneShot => "one-shot",
            Self::KeepAlive => "keep-alive",
        }
    }
}

impl Caller {
    pub(super) fn new(to: SocketAddr, connections: Connections) -> Self {
        Self {
            to,
            connections,
            kept: None,
        }
    }

    /// Pulls until "No messages", for so many responses or so long at most.
    pub(super) async fn pull_all(&mut self, received: &mut Received, most: usize, longest: Duration) {
        let began = Instant::now();
        received.is_emptied = false;
        let limit = received.tickets.len() + received.broken.len() + most;
        while received.tickets.len() + received.broken.len() < limit && began.elapsed() < longest {
            if self.pull(received).await {
                received.is_emptied = true;
                return;
            }
        }
    }

    /// Pulls once; whether that was "No messages".
    pub(super) async fn pull(&mut self, received: &mut Received) -> bool {
        match self.response().await {
            Response::Ticket(number) => received.tickets.push(number),
            Response::Empty => return true,
            Response::Refused => {
                received.refused += 1;
                tokio::time::sleep(RETRY).await;
            }
            Response::Broken(why) => received.broken.push(why),
        }
        false
    }

    async fn response(&mut self) -> Response {
        let request = format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
        if let Some(mut stream) = self.kept.take() {
            let mut bytes = Vec::new();
            let result = self.ask(&mut stream, &request, &mut bytes).await;
            if !bytes.is_empty() {
                return self.finish(stream, &bytes, result);
            }
            // The other end has closed the connection while it was idle: a client tries a new one.
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((CALLER, 0).into()).unwrap();
        let mut stream = socket.connect(self.to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut bytes = Vec::new();
        let result = self.ask(&mut stream, &request, &mut bytes).await;
        self.finish(stream, &bytes, result)
    }

    async fn ask(
        &self,
        stream: &mut TcpStream,
        request: &str,
        response: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        stream.write_all(request.as_bytes()).await?;
        let mut room = vec![0; 64 << 10];
        while whole_length(response).is_none_or(|length| response.len() < length) {
            let read = tokio::time::timeout(PATIENCE, stream.read(&mut room)).await;
            match read.expect("something comes, or the end")? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => response.extend_from_slice(&room[..count]),
            }
        }
        Ok(())
    }

    fn finish(&mut self, stream: TcpStream, bytes: &[u8], result: std::io::Result<()>) -> Response {
        let response = Answer(String::from_utf8_lossy(bytes).into_owned());
        if let Err(error) = result {
            return Response::Broken(format!("{error} after {} bytes", bytes.len()));
        }
        let is_last = response
            .field("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if self.connections == Connections::KeepAlive && !is_last {
            self.kept = Some(stream);
        }
        match response.status() {
            200 if response.body().contains("No messages available") => Response::Empty,
            200 => match number(response.body()) {
                Some(number) if response.body() == ticket(number, response.body().len()) => {
                    Response::Ticket(number)
                }
                _ => Response::Broken("a ticket that is not as Cisco sent it".to_owned()),
            },
            503 => Response::Refused,
            status => Response::Broken(format!("status {status}: {}", response.body())),
        }
    }
}

impl Received {
    /// How many different tickets came.
    pub(super) fn arrived(&self) -> usize {
        self.tickets.iter().collect::<BTreeSet<_>>().len()
    }

    /// Responses with a ticket that had come before.
    pub(super) fn duplicates(&self) -> usize {
        self.tickets.len() - self.arrived()
    }

    /// Whether no response has a ticket older than the one before it.
    pub(super) fn is_in_order(&self) -> bool {
        self.tickets.is_sorted()
    }
}

/// A ticket of so many bytes.
pub(super) fn ticket(number: usize, size: usize) -> String {
    let start = format!("{{\"Calls\":{{\"CustCallID\":\"INC{number:07}\",\"Remarks\":\"");
    let filling = "x".repeat(size.saturating_sub(start.len() + END.len()));
    start + &filling + END
}

const END: &str = "\"}}";

fn number(text: &str) -> Option<usize> {
    let (_, number) = text.split_once("\"CustCallID\":\"INC")?;
    number.get(..7)?.parse().ok()
}

/// How long a response is in all, once its head is there.
fn whole_length(response: &[u8]) -> Option<usize> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = Answer(String::from_utf8_lossy(&response[..end]).into_owned());
    let length: usize = head.field("content-length")?.parse().ok()?;
    Some(end + length)
}
