//! The spool's metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Metric;

use super::metrics::Registrar;

/// What became of pulled messages.
#[derive(Default)]
pub struct SpoolMetrics {
    /// Messages that were pulled and stored.
    pub pulled: Counter,
    /// Messages that were delivered.
    pub delivered: Counter,
    /// Messages that were delivered to a later request than the one they were pulled for.
    pub redeliveries: Counter,
    /// Deliveries that failed.
    pub failed_deliveries: Counter,
    /// Messages that became dead letters.
    pub set_aside: Counter,
    /// Pulls whose message may be lost.
    pub perhaps_lost: Counter,
    /// Damaged files.
    pub corrupt: Counter,
    /// Messages that could not be stored and were passed through.
    pub passed_through: Counter,
    /// Messages that are not delivered.
    pub messages: Gauge,
    /// How many there may be.
    messages_limit: Gauge,
    /// Their size.
    pub bytes: Gauge,
    /// The most bytes that the spool may take up.
    bytes_limit: Gauge,
    /// Of these, messages with five failed deliveries or more.
    pub failing: Gauge,
    /// The size of the retained messages.
    pub retained_bytes: Gauge,
    /// When the oldest message was pulled, in seconds since 1970; 0 without one.
    pub oldest: Gauge<f64, AtomicU64>,
}

impl SpoolMetrics {
    /// All metrics at zero, in a registry.
    pub(super) fn register(to: &mut Registrar) -> Self {
        Self {
            pulled: add(to, "pulled", "Messages pulled and stored"),
            delivered: add(to, "delivered", "Messages delivered"),
            redeliveries: add(to, "redeliveries", "Messages delivered to a later request"),
            failed_deliveries: add(to, "failed_deliveries", "Deliveries that failed"),
            set_aside: add(to, "set_aside", "Dead letters; see bondgate spool list"),
            perhaps_lost: add(to, "perhaps_lost", "Messages that may be lost; see the log"),
            corrupt: add(to, "corrupt", "Damaged files in the spool's directory"),
            passed_through: add(to, "passed_through", "Messages not stored; see the log"),
            messages: add(to, "messages", "Messages not delivered"),
            messages_limit: add(to, "messages_limit", "The limit of messages"),
            bytes: add(to, "bytes", "Bytes of the messages not delivered"),
            bytes_limit: add(to, "bytes_limit", "The limit of bytes"),
            failing: add(to, "failing", "Messages with five failed deliveries or more"),
            retained_bytes: add(to, "retained_bytes", "Bytes of the delivered messages"),
            oldest: add(to, "oldest_timestamp_seconds", "Pull of the oldest message, or 0"),
        }
    }

    /// Records how many messages, and how many bytes of them, the spool may hold.
    pub fn set_limits(&self, messages: u64, bytes: u64) {
        let gauge = |limit| i64::try_from(limit).unwrap_or(i64::MAX);
        self.messages_limit.set(gauge(messages));
        self.bytes_limit.set(gauge(bytes));
    }
}

fn add<M: Metric + Clone + Default>(to: &mut Registrar, name: &str, help: &str) -> M {
    to.add(&format!("spool_{name}"), help)
}
