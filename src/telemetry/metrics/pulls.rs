//! The metrics of the pulls from an upstream: each takes a message off a queue, or finds the queue empty.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::registrar::{Labels, Registrar};

/// The families of these metrics, over all upstreams.
pub(super) struct PullFamilies {
    pulls: Family<Labels<2>, Counter>,
    last_success: Family<Labels<1>, Gauge<f64, AtomicU64>>,
}

/// The pulls from one upstream.
pub struct PullMetrics {
    /// Pulls that brought a message.
    pub messages: Counter,
    /// Pulls from an empty queue.
    pub empty: Counter,
    /// Pulls without an outcome, or with an error.
    pub failed: Counter,
    /// Has no sample before the first success: no time is known then.
    last_success: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    upstream: Labels<1>,
}

impl PullFamilies {
    /// Empty families, registered.
    pub(super) fn register(to: &mut Registrar) -> Self {
        Self {
            pulls: to.add("pulls", "Pulls sent to the upstream, by result"),
            last_success: to.add(
                "last_successful_pull_timestamp_seconds",
                "When a pull last brought a message or found the queue empty, seconds since 1970",
            ),
        }
    }

    /// The metrics of one upstream.
    pub(super) fn of(&self, upstream: &Labels<1>) -> PullMetrics {
        let counter = |result: &'static str| {
            let [upstream] = upstream.clone();
            let labels = [upstream, ("result", result.into())];
            self.pulls.get_or_create(&labels).clone()
        };
        PullMetrics {
            messages: counter("message"),
            empty: counter("empty"),
            failed: counter("failed"),
            last_success: self.last_success.clone(),
            upstream: upstream.clone(),
        }
    }
}

impl PullMetrics {
    /// Records that a pull has succeeded now.
    pub fn set_last_success(&self) {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since_1970.unwrap_or_default().as_secs_f64();
        self.last_success.get_or_create(&self.upstream).set(seconds);
    }
}
