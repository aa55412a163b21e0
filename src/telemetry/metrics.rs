//! The daemon's numbers, for Prometheus: one struct, injected; no global registry.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::spool::SpoolMetrics;

/// Every number that the daemon keeps.
pub struct Metrics {
    registry: Registry,
    /// Callers' connections that are open.
    pub connections: Gauge,
    /// Requests whose head was refused.
    pub refused: Counter,
    /// TLS handshakes of callers that failed.
    pub tls_handshake_failures: Counter,
    /// Connections beyond the cap.
    pub crowded_out: Counter,
    /// Idle connections that were closed for new ones, at the cap.
    pub evicted: Counter,
    /// Connections that were ended since nothing moved on them.
    pub stalled: Counter,
    /// Log lines that were not written, since nobody read those before them.
    pub log_lines_dropped: Counter,
    config_reloads: Family<ReloadLabels, Counter>,
    config_loaded: Gauge<f64, AtomicU64>,
    requests: Family<RequestLabels, Counter>,
    own_answers: Family<OwnLabels, Counter>,
    duration: Family<UpstreamLabel, Histogram>,
    in_flight: Family<UpstreamLabel, Gauge>,
    token_requests: Family<FetchLabels, Counter>,
    token_state: Family<StateLabels, Gauge>,
    token_expiry: Family<UpstreamLabel, Gauge<f64, AtomicU64>>,
    clock_skew: Family<UpstreamLabel, Gauge>,
    replays: Family<UpstreamLabel, Counter>,
    /// What became of pulled messages.
    pub spool: SpoolMetrics,
}

/// The numbers of one upstream.
pub struct UpstreamMetrics {
    /// Answers with 200.
    ok: Counter,
    all: Arc<Metrics>,
    upstream: Arc<str>,
    /// Requests between their head's arrival and their answer's last byte.
    pub in_flight: Gauge,
    /// Seconds from the head's arrival to the answer's head.
    pub duration: Histogram,
    /// Requests that were sent once more, after the upstream refused a token.
    pub replays: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    upstream: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    upstream: Name,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OwnLabels {
    upstream: Name,
    error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    upstream: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    upstream: Name,
    state: &'static str,
}

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(&self.0)
    }
}

/// Bounds of the duration histogram: from a loopback answer to the longest pull.
const BUCKETS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0, 300.0,
];

impl Metrics {
    /// All numbers at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("bondgate");
        let metrics = Self {
            connections: Gauge::default(),
            refused: Counter::default(),
            tls_handshake_failures: Counter::default(),
            crowded_out: Counter::default(),
            evicted: Counter::default(),
            stalled: Counter::default(),
            log_lines_dropped: Counter::default(),
            config_reloads: Family::default(),
            config_loaded: Gauge::default(),
            requests: Family::default(),
            own_answers: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Family::default(),
            token_requests: Family::default(),
            token_state: Family::default(),
            token_expiry: Family::default(),
            clock_skew: Family::default(),
            replays: Family::default(),
            spool: SpoolMetrics::register(&mut registry),
            registry: Registry::default(),
        };
        let version = [("version".into(), env!("CARGO_PKG_VERSION").into())];
        registry.sub_registry_with_labels(version.into_iter()).register(
            "build_info",
            "The running version",
            one(),
        );
        metrics.register_what_is_turned_away(&mut registry);
        registry.register(
            "config_reloads",
            "Attempts to put a changed configuration in force, by result",
            metrics.config_reloads.clone(),
        );
        registry.register(
            "config_last_success_timestamp_seconds",
            "When the configuration in force was put in force, seconds since 1970",
            metrics.config_loaded.clone(),
        );
        registry.register("requests", "Answers sent, by status", metrics.requests.clone());
        registry.register(
            "own_answers",
            "Answers that are bondgate's and not the upstream's, by Proxy-Status error",
            metrics.own_answers.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time to the head of the answer",
            Unit::Seconds,
            metrics.duration.clone(),
        );
        registry.register(
            "requests_in_flight",
            "Requests being relayed",
            metrics.in_flight.clone(),
        );
        registry.register(
            "token_requests",
            "Token requests, by outcome",
            metrics.token_requests.clone(),
        );
        registry.register(
            "token_state",
            "1 for the state that the token is in",
            metrics.token_state.clone(),
        );
        registry.register(
            "token_expiry_timestamp_seconds",
            "When the token in use expires, seconds since 1970",
            metrics.token_expiry.clone(),
        );
        registry.register(
            "clock_skew_seconds",
            "How far the identity service's clock is ahead of this machine's",
            metrics.clock_skew.clone(),
        );
        registry.register(
            "replays",
            "Requests sent once more with a newer token",
            metrics.replays.clone(),
        );
        Arc::new(Self { registry, ..metrics })
    }

    /// What has no room, of connections, requests and log lines.
    fn register_what_is_turned_away(&self, registry: &mut Registry) {
        registry.register(
            "connections",
            "Open connections of callers",
            self.connections.clone(),
        );
        registry.register(
            "refused_heads",
            "Requests refused before they were relayed anywhere",
            self.refused.clone(),
        );
        registry.register(
            "tls_handshake_failures",
            "TLS handshakes of callers that failed",
            self.tls_handshake_failures.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections beyond limits.connections or a caller's share of them",
            self.crowded_out.clone(),
        );
        registry.register(
            "evicted_connections",
            "Idle connections closed for new ones at limits.connections or a caller's share of them",
            self.evicted.clone(),
        );
        registry.register(
            "stalled_connections",
            "Connections ended since their callers took nothing for limits.stall",
            self.stalled.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Log lines that were not written since the log's reader is slow",
            self.log_lines_dropped.clone(),
        );
    }

    /// Counts an attempt to put a changed configuration in force.
    pub fn reloaded(&self, is_applied: bool) {
        let result = if is_applied { "applied" } else { "refused" };
        self.config_reloads.get_or_create(&ReloadLabels { result }).inc();
    }

    /// Notes when the configuration was put in force, in seconds since 1970.
    pub fn config_loaded(&self, seconds: f64) {
        self.config_loaded.set(seconds);
    }

    /// The numbers of one upstream, ready to be counted into.
    #[must_use]
    pub fn upstream(self: &Arc<Self>, name: &str) -> UpstreamMetrics {
        let upstream: Arc<str> = name.into();
        let label = UpstreamLabel {
            upstream: Name(upstream.clone()),
        };
        let ok = RequestLabels {
            upstream: Name(upstream.clone()),
            status: 200,
        };
        UpstreamMetrics {
            ok: self.requests.get_or_create(&ok).clone(),
            in_flight: self.in_flight.get_or_create(&label).clone(),
            duration: self.duration.get_or_create(&label).clone(),
            replays: self.replays.get_or_create(&label).clone(),
            all: self.clone(),
            upstream,
        }
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes any text");
        text
    }
}

impl UpstreamMetrics {
    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        // Nearly all of them.
        if status == 200 {
            self.ok.inc();
            return;
        }
        self.all
            .requests
            .get_or_create(&RequestLabels {
                upstream: self.name(),
                status,
            })
            .inc();
    }

    /// Counts an answer that is ours, by its Proxy-Status error type.
    pub fn own_answer(&self, error: &'static str) {
        self.all
            .own_answers
            .get_or_create(&OwnLabels {
                upstream: self.name(),
                error,
            })
            .inc();
    }

    /// Counts a token request by its outcome: `ok`, or the kind of failure.
    pub fn token_request(&self, outcome: &'static str) {
        self.all
            .token_requests
            .get_or_create(&FetchLabels {
                upstream: self.name(),
                outcome,
            })
            .inc();
    }

    /// Notes the state that the token is in, out of all `states`.
    pub fn token_state(&self, current: &'static str, states: &[&'static str]) {
        for &state in states {
            let labels = StateLabels {
                upstream: self.name(),
                state,
            };
            self.all
                .token_state
                .get_or_create(&labels)
                .set(i64::from(state == current));
        }
    }

    /// Notes when the token in use expires, in seconds since 1970.
    pub fn token_expiry(&self, seconds: f64) {
        self.all
            .token_expiry
            .get_or_create(&UpstreamLabel {
                upstream: self.name(),
            })
            .set(seconds);
    }

    /// Notes how far the identity service's clock is ahead of ours, in seconds.
    pub fn clock_skew(&self, seconds: i64) {
        self.all
            .clock_skew
            .get_or_create(&UpstreamLabel {
                upstream: self.name(),
            })
            .set(seconds);
    }

    fn name(&self) -> Name {
        Name(self.upstream.clone())
    }
}

fn one() -> Gauge {
    let gauge = Gauge::default();
    gauge.set(1);
    gauge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_in_the_text() {
        let metrics = Metrics::new();
        let upstream = metrics.upstream("cisco");
        upstream.answered(200);
        upstream.own_answer("dns_error");
        upstream.token_state("fresh", &["starting", "fresh"]);
        let text = metrics.encode();
        for line in [
            "bondgate_requests_total{upstream=\"cisco\",status=\"200\"} 1",
            "bondgate_own_answers_total{upstream=\"cisco\",error=\"dns_error\"} 1",
            "bondgate_token_state{upstream=\"cisco\",state=\"fresh\"} 1",
            "bondgate_token_state{upstream=\"cisco\",state=\"starting\"} 0",
            "bondgate_build_info{version=\"",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
