//! What the layers record of one request for each other.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use parking_lot::{Mutex, MutexGuard};

use super::caller_identity::Caller;
use super::forward::UploadState;
use crate::server::Permit;

/// The record of one request; an extension of it. Clones share it. The access log adds it and holds it until the response
/// has ended or the caller has disconnected.
#[derive(Clone, Default)]
pub(super) struct RequestRecord(Arc<Mutex<RecordFields>>);

/// What is recorded.
#[derive(Default)]
pub(super) struct RecordFields {
    /// Set by authorization, also for a refused request.
    pub(super) caller: Option<Caller>,
    /// Set by authorization for an authorized request.
    pub(super) options: Option<RouteOptions>,
    /// What was sent to the upstream. Set when the request is about to be sent; not for a stored message.
    pub(super) upload: Option<Arc<UploadState>>,
    /// The in-flight permit, held for its drop.
    pub(super) permit: Option<Permit>,
}

/// The rule that allows a request, and how it wants it sent.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteOptions {
    /// The path of the rule, as it is configured; `None` if `rules = "any"` allows the request.
    pub(super) rule: Option<Arc<str>>,
    /// On a new connection of its own.
    pub(super) is_fresh: bool,
    /// Through the spool: its response takes a message off a queue.
    pub(super) is_consuming: bool,
}

impl RecordFields {
    /// How long the request has waited for the upstream.
    pub(super) fn upstream_time(&self) -> Duration {
        let upload = self.upload.as_ref();
        upload.map_or(Duration::ZERO, |upload| upload.upstream_time())
    }
}

impl RequestRecord {
    /// The record of a request.
    pub(super) fn of<B>(request: &Request<B>) -> &Self {
        let record = request.extensions().get();
        record.expect("the access log layer adds the record")
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, RecordFields> {
        self.0.lock()
    }
}
