//! The spool's numbers.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of pulled messages.
#[derive(Default)]
pub struct SpoolMetrics {
    /// Messages that came in.
    pub pulled: Counter,
    /// Messages that a caller has.
    pub delivered: Counter,
    /// Messages that answered another request than the one that they were pulled for.
    pub redeliveries: Counter,
    /// Times that a message did not reach its caller whole.
    pub failed_deliveries: Counter,
    /// Messages that became dead letters.
    pub set_aside: Counter,
    /// Pulls that may have taken a message which never came.
    pub perhaps_lost: Counter,
    /// Damaged files.
    pub corrupt: Counter,
    /// Messages too large to be kept, which went to their caller alone.
    pub passed_through: Counter,
    /// Messages that no caller has for certain.
    pub messages: Gauge,
    /// Their size.
    pub bytes: Gauge,
    /// Of these, messages whose delivery has failed five times or more.
    pub failing: Gauge,
    /// The size of the delivered messages that are retained.
    pub retained_bytes: Gauge,
    /// When the oldest of them was pulled, in seconds since 1970; 0 where there is none.
    pub oldest: Gauge<f64, AtomicU64>,
}

impl SpoolMetrics {
    /// All numbers at zero, in a registry.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let numbers = Self::default();
        let counters = [
            (
                "spool_pulled",
                "Messages pulled and written down",
                &numbers.pulled,
            ),
            (
                "spool_delivered",
                "Messages that a caller has",
                &numbers.delivered,
            ),
            (
                "spool_redeliveries",
                "Messages that answered a later request than the one they were pulled for",
                &numbers.redeliveries,
            ),
            (
                "spool_failed_deliveries",
                "Times that a message did not reach its caller whole",
                &numbers.failed_deliveries,
            ),
            (
                "spool_set_aside",
                "Dead letters; bondgate spool list names them, bondgate spool requeue --dead-letters delivers them again",
                &numbers.set_aside,
            ),
            (
                "spool_perhaps_lost",
                "Pulls that may have taken a message which never came; look for it at Cisco",
                &numbers.perhaps_lost,
            ),
            (
                "spool_corrupt",
                "Damaged files in the spool's directory",
                &numbers.corrupt,
            ),
            (
                "spool_passed_through",
                "Messages too large to be kept, which went to their caller alone",
                &numbers.passed_through,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "spool_messages",
            "Messages that no caller has yet",
            numbers.messages.clone(),
        );
        registry.register("spool_bytes", "Their size", numbers.bytes.clone());
        registry.register(
            "spool_failing",
            "Of these, messages whose delivery has failed five times or more; look at their caller",
            numbers.failing.clone(),
        );
        registry.register(
            "spool_retained_bytes",
            "The size of the delivered messages that are retained (spool.keep)",
            numbers.retained_bytes.clone(),
        );
        registry.register(
            "spool_oldest_timestamp_seconds",
            "When the oldest of them was pulled, seconds since 1970; 0 where there is none",
            numbers.oldest.clone(),
        );
        numbers
    }
}
