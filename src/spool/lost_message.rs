//! The report of a message that may be lost.

use super::format::Intent;
use super::id::MessageId;
use crate::problems::spool as problems;
use crate::telemetry::metrics::Metrics;

/// Reports a pull whose message may be lost, since it cannot be repeated.
pub(super) fn report_lost(metrics: &Metrics, id: MessageId, intent: Option<&Intent>, reason: &str) {
    metrics.spool.perhaps_lost.inc();
    tracing::error!(
        queue = intent.map(|intent| tracing::field::display(&intent.queue)),
        method = intent.map(|intent| &intent.method),
        pulled = %id,
        reason,
        problem = problems::messages_lost(1).code(),
        "a message may be lost: its pull was sent, and no whole response was stored; look for it at Cisco"
    );
}
