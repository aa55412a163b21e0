//! What the log reports of the spool's files: messages that may be lost, and once each what cannot be used.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::error::SpoolError;
use super::format::{FormatError, Intent};
use super::id::MessageId;
use crate::telemetry::metrics::Metrics;

/// Files and folders that cannot be used and were reported.
#[derive(Default)]
pub(super) struct UnusablePaths(Mutex<HashSet<PathBuf>>);

/// The most paths that are reported.
const MOST_REPORTED: usize = 100;

impl UnusablePaths {
    /// Reports a link in the place of a queue's folder. Only its own queue is affected, so it is no trouble of the whole
    /// spool.
    pub(super) fn report_link(&self, folder: &Path) -> SpoolError {
        let error = SpoolError::Link(folder.display().to_string());
        if self.is_new(folder) {
            tracing::error!(%error, "nothing is pulled from this queue");
        }
        error
    }

    /// Reports a file that cannot be used.
    pub(super) fn report_file(&self, path: &Path, error: &FormatError) {
        if self.is_new(path) {
            tracing::error!(
                path = %path.display(),
                %error,
                "spool file cannot be used and is left as it is; if permission is denied, chown it to bondgate's user"
            );
        }
    }

    fn is_new(&self, path: &Path) -> bool {
        let mut reported = self.0.lock();
        reported.len() < MOST_REPORTED && reported.insert(path.to_owned())
    }
}

/// Reports a pull whose message may be lost, since it cannot be repeated.
pub(super) fn report_lost(metrics: &Metrics, id: MessageId, intent: Option<&Intent>, reason: &str) {
    metrics.spool.perhaps_lost.inc();
    tracing::error!(
        queue = intent.map(|intent| tracing::field::display(&intent.queue)),
        method = intent.map(|intent| &intent.method),
        pulled = %id,
        reason,
        "a message may be lost: its pull was sent, and no whole response was stored; look for it at Cisco"
    );
}
