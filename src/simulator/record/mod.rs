//! The record of requests, for tests to wait on and people to look at.
//!
//! An entry appears when a request's head has been read, so a request whose body never ends is recorded too. The body
//! fields grow as the body arrives, until [`Seen::body_complete`]; [`Seen::status`] is set when the response's head is
//! ready. A malformed head, which hyper itself refuses, is not recorded.

pub(super) mod redaction;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::cisco::endpoint::Endpoint;

/// How much of a body an entry keeps.
pub const BODY_KEPT: usize = 64 * 1024;
/// How many entries are kept. When there are more, the oldest eighth is dropped.
pub const ENTRIES_KEPT: usize = 100_000;
/// How many bytes of heads and bodies are kept in total. When there are more, the oldest entries are dropped.
pub const BYTES_KEPT: usize = 128 * 1024 * 1024;

/// A recorded request and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Numbers the requests from 1, in the order in which their heads were read.
    pub sequence: u64,
    /// Numbers the accepted connections from 1.
    pub connection: u64,
    /// The endpoint it addressed.
    pub endpoint: Endpoint,
    /// The method.
    pub method: String,
    /// The request target, byte for byte.
    pub target: String,
    /// `HTTP/1.0` or `HTTP/1.1`.
    pub version: &'static str,
    /// Every header line in order, with the names in the case received. A value's bytes are its characters (Latin-1).
    pub headers: Vec<(String, String)>,
    /// The first [`BODY_KEPT`] bytes of the body, without chunked coding.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// How many bytes of body have arrived so far.
    pub body_bytes: u64,
    /// The SHA-256 of the body in hexadecimal, once it is complete.
    pub body_sha256: Option<String>,
    /// The body has been read to its end. A request without a body is complete at once.
    pub body_complete: bool,
    /// The client whose token authorized it, or who was issued one.
    pub token_client: Option<String>,
    /// Where a token request carried its credentials.
    pub client_auth: Option<ClientAuth>,
    /// The status of the response, set when the response's head is ready; none without a response.
    pub status: Option<u16>,
    /// The injected fault.
    pub fault: Option<String>,
    /// It ended without a response: the client left, or a fault cut the connection.
    pub abandoned: bool,
}

/// The shape of a token request: where it carries its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// All parameters in the query, no body.
    Query,
    /// All parameters in the form-encoded body.
    Form,
    /// The grant type in the body, the client id and secret in the query.
    Mixed,
    /// The client id and secret by HTTP Basic, the grant type in the body.
    Basic,
}

impl Seen {
    /// The values of every header line with this name, in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<&str> {
        let is_named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        let lines = self.headers.iter().filter(is_named);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    pub(super) fn add_body(&mut self, data: &[u8]) {
        self.body_bytes += data.len() as u64;
        let kept = BODY_KEPT.saturating_sub(self.body.len()).min(data.len());
        if kept > 0 {
            self.body = [&self.body[..], &data[..kept]].concat().into();
        }
    }

    fn size(&self) -> usize {
        let headers = self.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        self.target.len() + headers + self.body.len()
    }
}

/// A body as JSON text.
pub(super) fn as_text<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}

/// The bounded list of recorded requests.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// In the order of their sequence numbers.
    pub(super) list: Vec<Seen>,
    last: u64,
    bytes: usize,
}

impl Record {
    /// Numbers a request and adds it.
    pub(super) fn add(&mut self, request: &mut Seen) {
        self.last += 1;
        request.sequence = self.last;
        self.bytes += request.size();
        self.list.push(request.clone());
        self.trim();
    }

    /// Changes an entry, unless it has been dropped.
    pub(super) fn update(&mut self, sequence: u64, change: impl FnOnce(&mut Seen)) {
        if let Ok(at) = self.list.binary_search_by_key(&sequence, |seen| seen.sequence) {
            let seen = &mut self.list[at];
            self.bytes -= seen.size();
            change(seen);
            self.bytes += seen.size();
            self.trim();
        }
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }

    fn trim(&mut self) {
        while self.list.len() > ENTRIES_KEPT || self.bytes > BYTES_KEPT {
            // Many at a time, because the rest moves up.
            let oldest = self.list.len().div_ceil(8);
            let dropped: usize = self.list.drain(..oldest).map(|seen| seen.size()).sum();
            self.bytes -= dropped;
        }
    }
}
