//! What the simulator saw, for tests to wait on and people to look at.
//!
//! An entry appears when a request's head has been read, so that a request whose body never ends can be seen too.
//! Its body fields grow as the body arrives ([`Seen::body_complete`] says when it is whole) and its answer is filled
//! in when the answer's head is ready. Whoever waits for whole requests asks for `body_complete`, for answered ones
//! for `status`. What hyper refuses by itself, a malformed head for instance, is not seen.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::identity::{ClientAuth, TOKEN_PATH};
use super::locked;
use super::smart_bonding::{PULL_PATH, PUSH_PATH, TSP_CODES_PATH};
use super::tap::RawHead;

/// How much of a body an entry holds.
pub const BODY_KEPT: usize = 64 * 1024;
/// How many entries are kept; the oldest are dropped.
pub const ENTRIES_KEPT: usize = 100_000;
/// How many bytes of heads and bodies are kept in all; the oldest entries are dropped.
pub const BYTES_KEPT: usize = 128 * 1024 * 1024;

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// The token endpoint of the identity service.
    Token,
    /// Push a ticket.
    Push,
    /// Pull a ticket update.
    Pull,
    /// The list of TSP codes.
    TspCodes,
    /// The simulator's own endpoints beneath `/simulator/`.
    Transfer,
    /// A path that nobody answers at.
    Other,
}

impl Endpoint {
    pub(super) fn of(path: &str) -> Self {
        match path {
            TOKEN_PATH => Endpoint::Token,
            PUSH_PATH => Endpoint::Push,
            PULL_PATH => Endpoint::Pull,
            TSP_CODES_PATH => Endpoint::TspCodes,
            _ if path.starts_with("/simulator/") => Endpoint::Transfer,
            _ => Endpoint::Other,
        }
    }
}

/// One request as it was received, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Counts the requests from 1, in the order in which their heads were read.
    pub sequence: u64,
    /// Counts the accepted connections from 1.
    pub connection: u64,
    /// What it was for.
    pub endpoint: Endpoint,
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: &'static str,
    /// Every header line, in order, names in the case received. A value's bytes are its characters (Latin-1).
    pub headers: Vec<(String, String)>,
    /// The first [`BODY_KEPT`] bytes of the body, chunked coding undone.
    pub body: Bytes,
    /// How many bytes of body have come so far.
    pub body_bytes: u64,
    /// The whole body's SHA-256 in hexadecimal, once it is complete.
    pub body_sha256: Option<String>,
    /// Whether the body has been read to its end. A request without one is complete at once.
    pub body_complete: bool,
    /// The client whose token authorised it, or who was issued one.
    pub token_client: Option<String>,
    /// Where a token request had its credentials.
    pub client_auth: Option<ClientAuth>,
    /// The status answered, as soon as the answer's head is ready, whatever becomes of its body; none while there is no answer, or if there never was one.
    pub status: Option<u16>,
    /// The scripted fault that struck it.
    pub fault: Option<&'static str>,
    /// It ended without an answer: the client left, or a fault cut the connection.
    pub abandoned: bool,
}

impl Seen {
    /// The values of every header line of this name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn weight(&self) -> usize {
        let headers = self.headers.iter();
        self.target.len()
            + headers
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>()
    }
}

/// The bounded list of what was seen.
#[derive(Debug, Default)]
pub(super) struct Record {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Seen>,
    last: u64,
    bytes: usize,
}

impl Record {
    /// Enters a request; the entry counts as abandoned if the last clone of what is returned goes without an answer.
    pub(super) fn begin(
        self: &Arc<Self>,
        head: RawHead,
        endpoint: Endpoint,
        connection: u64,
        bodiless: bool,
    ) -> Entry {
        let mut inner = locked(&self.inner);
        inner.last += 1;
        let seen = Seen {
            sequence: inner.last,
            connection,
            endpoint,
            method: head.method,
            target: head.target,
            version: head.version,
            headers: head.headers,
            body: Bytes::new(),
            body_bytes: 0,
            body_sha256: bodiless.then(|| format!("{:x}", Sha256::digest([]))),
            body_complete: bodiless,
            token_client: None,
            client_auth: None,
            status: None,
            fault: None,
            abandoned: false,
        };
        let sequence = seen.sequence;
        inner.bytes += seen.weight();
        inner.entries.push_back(seen);
        inner.trim();
        drop(inner);
        self.changed.notify_waiters();
        Entry(Arc::new(Line {
            record: Arc::clone(self),
            sequence,
        }))
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        locked(&self.inner).entries.iter().cloned().collect()
    }

    pub(super) fn forget(&self) {
        let mut inner = locked(&self.inner);
        inner.entries.clear();
        inner.bytes = 0;
    }

    pub(super) async fn wait_for(&self, mut predicate: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on a change wakes it, even one between the look and the wait.
            changed.as_mut().enable();
            {
                let mut inner = locked(&self.inner);
                let entries = inner.entries.make_contiguous();
                if predicate(entries) {
                    return entries.to_vec();
                }
            }
            changed.await;
        }
    }

    fn update(&self, sequence: u64, change: impl FnOnce(&mut Seen) -> usize) {
        let mut inner = locked(&self.inner);
        // Sequence numbers have no gaps, so an entry's place follows from the first one's.
        let place = inner
            .entries
            .front()
            .and_then(|first| sequence.checked_sub(first.sequence))
            .and_then(|place| usize::try_from(place).ok());
        let Some(seen) = place.and_then(|place| inner.entries.get_mut(place)) else {
            return;
        };
        inner.bytes += change(seen);
        inner.trim();
        drop(inner);
        self.changed.notify_waiters();
    }
}

impl Inner {
    fn trim(&mut self) {
        while self.entries.len() > ENTRIES_KEPT || self.bytes > BYTES_KEPT {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes -= oldest.weight() + oldest.body.len();
        }
    }
}

/// The hand on one request's entry, for those who answer it.
#[derive(Debug, Clone)]
pub(super) struct Entry(Arc<Line>);

#[derive(Debug)]
struct Line {
    record: Arc<Record>,
    sequence: u64,
}

impl Entry {
    pub(super) fn client_auth(&self, shape: ClientAuth) {
        self.set(|seen| seen.client_auth = Some(shape));
    }

    pub(super) fn token_client(&self, client: &str) {
        self.set(|seen| seen.token_client = Some(client.to_owned()));
    }

    pub(super) fn fault(&self, name: &'static str) {
        self.set(|seen| seen.fault = Some(name));
    }

    pub(super) fn answered(&self, status: StatusCode) {
        self.set(|seen| seen.status = Some(status.as_u16()));
    }

    fn body(&self, data: &[u8], end: Option<String>) {
        self.0.record.update(self.0.sequence, |seen| {
            seen.body_bytes += data.len() as u64;
            let room = BODY_KEPT.saturating_sub(seen.body.len()).min(data.len());
            if room > 0 {
                seen.body = [&seen.body[..], &data[..room]].concat().into();
            }
            if let Some(sha256) = end {
                seen.body_complete = true;
                seen.body_sha256 = Some(sha256);
            }
            room
        });
    }

    fn set(&self, change: impl FnOnce(&mut Seen)) {
        self.0.record.update(self.0.sequence, |seen| {
            change(seen);
            0
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.record.update(self.sequence, |seen| {
            seen.abandoned = seen.status.is_none();
            0
        });
    }
}

/// A request body that enters what passes through it.
#[derive(Debug)]
pub(super) struct Recorded {
    body: Incoming,
    entry: Entry,
    hash: Sha256,
    ended: bool,
}

impl Recorded {
    pub(super) fn new(body: Incoming, entry: Entry) -> Self {
        Recorded {
            ended: body.is_end_stream(),
            body,
            entry,
            hash: Sha256::new(),
        }
    }
}

impl Body for Recorded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let data = match &frame {
            Some(Ok(frame)) => frame.data_ref().cloned().unwrap_or_default(),
            Some(Err(_)) => return Poll::Ready(frame),
            None => Bytes::new(),
        };
        self.hash.update(&data);
        let end = (!self.ended && (frame.is_none() || self.body.is_end_stream()))
            .then(|| format!("{:x}", self.hash.clone().finalize()));
        if end.is_some() || !data.is_empty() {
            self.ended |= end.is_some();
            self.entry.body(&data, end);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
