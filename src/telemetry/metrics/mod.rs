//! The daemon's metrics, for Prometheus: one struct, injected; no global registry.

mod process;
mod pulls;
mod registrar;
#[cfg(test)]
mod tests;
mod text_format;
mod upstream_connections;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use self::pulls::PullFamilies;
use self::registrar::{Label, Labels};
use self::text_format::to_prometheus;
use self::upstream_connections::ConnectionFamilies;
use super::log_writer::DroppedLines;
use super::program;
use super::spool_metrics::SpoolMetrics;

pub use self::pulls::PullMetrics;
pub(super) use self::registrar::Registrar;
pub use self::text_format::TextFormat;
pub use self::upstream_connections::{OpenConnection, UpstreamConnections};

/// All metrics; each field has the metric's name or its start.
pub struct Metrics {
    registrar: Registrar,
    /// Held while a text is written.
    scrape: Mutex<()>,
    /// Open connections of callers.
    pub connections: Gauge,
    /// How many there may be.
    pub connections_limit: Gauge,
    refusals: Family<Labels<1>, Counter>,
    /// Requests refused before they were relayed anywhere.
    pub refused_heads: Counter,
    /// TLS handshakes of callers that failed.
    pub tls_handshake_failures: Counter,
    /// Connections refused at a limit.
    pub refused_connections: Counter,
    /// Idle connections closed for new ones, at a limit.
    pub evicted_connections: Counter,
    /// Connections ended because nothing moved for `limits.stall`.
    pub stalled_connections: Counter,
    /// Log lines dropped because the log's reader is too slow.
    pub log_lines_dropped: DroppedLines,
    config_reloads: Family<Labels<1>, Counter>,
    /// When the active configuration was loaded, in seconds since 1970.
    pub config_last_success: Gauge<f64, AtomicU64>,
    requests: Family<Labels<2>, Counter>,
    own_answers: Family<Labels<2>, Counter>,
    request_duration: Family<Labels<1>, Histogram>,
    request_own_duration: Family<Labels<1>, Histogram>,
    request_upstream_duration: Family<Labels<1>, Histogram>,
    requests_in_flight: Family<Labels<1>, Gauge>,
    /// How many there may be, over all upstreams.
    pub requests_in_flight_limit: Gauge,
    upstream_connections: ConnectionFamilies,
    pulls: PullFamilies,
    certificate_expiry: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    token_requests: Family<Labels<2>, Counter>,
    token_state: Family<Labels<2>, Gauge>,
    token_expiry: Family<Labels<1>, Gauge<f64, AtomicU64>>,
    clock_skew: Family<Labels<1>, Gauge>,
    /// Set for each text, so that no entry outlasts its problem.
    problem: Family<Vec<Label>, Gauge>,
    replays: Family<Labels<1>, Counter>,
    /// Pulled messages.
    pub spool: SpoolMetrics,
}

/// A problem that lasts, as the metrics name it.
pub struct LastingProblem {
    /// The upstream that has it, if it is one's.
    pub upstream: Option<String>,
    /// The kind of calls, or the part of the daemon, that fails.
    pub call: &'static str,
    /// Its code.
    pub code: &'static str,
}

/// The metrics of one upstream.
pub struct UpstreamMetrics {
    all: Arc<Metrics>,
    upstream: Labels<1>,
    /// Responses with 200: nearly all, and therefore at hand.
    ok: Counter,
    /// Requests between the arrival of their head and the last byte of their response.
    pub in_flight: Gauge,
    /// Seconds from the arrival of a request's head to the head of its response.
    pub duration: Histogram,
    /// The part of it that bondgate took, in seconds.
    pub own_duration: Histogram,
    /// The part of it that the upstream took, with the way there, in seconds.
    pub upstream_duration: Histogram,
    /// Requests sent once more with a newer token, after the upstream refused theirs.
    pub replays: Counter,
    /// Connections to it.
    pub connections: UpstreamConnections,
    /// Pulls from it.
    pub pulls: PullMetrics,
}

/// Upper bounds of the histograms of durations, in seconds: from bondgate's own part to the longest pull.
const BUCKETS: [f64; 14] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 25.0, 300.0,
];

impl Metrics {
    /// All metrics at zero.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let mut registrar = Registrar::new();
        let all = &mut registrar;
        let version = Info::new([("version", program::VERSION), ("commit", program::COMMIT)]);
        all.register("build", "The running version", version);
        let mut durations = |name, help| {
            let family: Family<_, _> = Family::new_with_constructor(|| Histogram::new(BUCKETS));
            all.register_with_unit(name, help, Unit::Seconds, family.clone());
            family
        };
        let request_duration = durations("request_duration", "Time to the head of the response");
        let request_own_duration = durations("request_own_duration", "The part of it that bondgate took");
        let request_upstream_duration = durations(
            "request_upstream_duration",
            "The part of it that the upstream took",
        );
        Arc::new(Self {
            connections: all.add("connections", "Open connections of callers"),
            connections_limit: all.add("connections_limit", "The limit of connections of callers"),
            refusals: all.add(
                "refusals",
                "Requests refused before relaying, by the problem's code",
            ),
            refused_heads: all.add("refused_heads", "Requests refused for their head"),
            tls_handshake_failures: all
                .add("tls_handshake_failures", "TLS handshakes of callers that failed"),
            refused_connections: all.add("refused_connections", "Connections refused at a limit"),
            evicted_connections: all.add("evicted_connections", "Idle connections closed at a limit"),
            stalled_connections: all.add("stalled_connections", "Connections ended by limits.stall"),
            log_lines_dropped: all.add("log_lines_dropped", "Log lines dropped for a slow reader"),
            config_reloads: all.add("config_reloads", "Configuration reloads, by result"),
            config_last_success: all.add(
                "config_last_success_timestamp_seconds",
                "When the active configuration was loaded, seconds since 1970",
            ),
            requests: all.add("requests", "Responses, by status"),
            own_answers: all.add("own_answers", "Responses of bondgate itself, by error"),
            request_duration,
            request_own_duration,
            request_upstream_duration,
            requests_in_flight: all.add("requests_in_flight", "Requests being relayed"),
            requests_in_flight_limit: all
                .add("requests_in_flight_limit", "The limit of requests being relayed"),
            upstream_connections: ConnectionFamilies::register(all),
            pulls: PullFamilies::register(all),
            certificate_expiry: all.add(
                "certificate_expiry_timestamp_seconds",
                "When the certificate of a listener expires, seconds since 1970",
            ),
            token_requests: all.add("token_requests", "Token requests, by outcome"),
            token_state: all.add("token_state", "1 for the token's current state"),
            token_expiry: all.add(
                "token_expiry_timestamp_seconds",
                "When the token in use expires, seconds since 1970",
            ),
            clock_skew: all.add(
                "clock_skew_seconds",
                "How far the identity service's clock is ahead of this machine's",
            ),
            problem: all.add("problem", "1 for each problem that lasts, by call and code"),
            replays: all.add("replays", "Requests sent again with a newer token"),
            spool: SpoolMetrics::register(all),
            registrar,
            scrape: Mutex::default(),
        })
    }

    /// Counts an attempt to reload the configuration.
    pub fn count_reload(&self, is_applied: bool) {
        let result = if is_applied { "applied" } else { "refused" };
        let labels = [("result", result.into())];
        self.config_reloads.get_or_create(&labels).inc();
    }

    /// Counts a request that bondgate refused before relaying it, by the code of the problem.
    pub fn count_refusal(&self, code: &'static str) {
        self.refusals.get_or_create(&[("reason", code.into())]).inc();
    }

    /// Records when the certificate of a listener expires, in seconds since 1970.
    pub fn set_certificate_expiry(&self, listener: &str, seconds: f64) {
        let labels = [("listener", listener.to_owned().into())];
        self.certificate_expiry.get_or_create(&labels).set(seconds);
    }

    /// The requests to an upstream whose response has not ended.
    #[must_use]
    pub fn requests_in_flight(&self, upstream: &str) -> u64 {
        let upstream: Labels<1> = [("upstream", upstream.to_owned().into())];
        let number = self.requests_in_flight.get_or_create(&upstream).get();
        number.try_into().unwrap_or(0)
    }

    /// The metrics of one upstream.
    #[must_use]
    pub fn upstream(self: &Arc<Self>, name: &str) -> UpstreamMetrics {
        let upstream: Labels<1> = [("upstream", name.to_owned().into())];
        let [label] = upstream.clone();
        let ok = [label, ("status", "200".into())];
        UpstreamMetrics {
            all: self.clone(),
            ok: self.requests.get_or_create(&ok).clone(),
            in_flight: self.requests_in_flight.get_or_create(&upstream).clone(),
            duration: self.request_duration.get_or_create(&upstream).clone(),
            own_duration: self.request_own_duration.get_or_create(&upstream).clone(),
            upstream_duration: self.request_upstream_duration.get_or_create(&upstream).clone(),
            replays: self.replays.get_or_create(&upstream).clone(),
            connections: self.upstream_connections.of(&upstream),
            pulls: self.pulls.of(&upstream),
            upstream,
        }
    }

    /// The text of all metrics, with the problems that last now.
    #[must_use]
    pub fn text(&self, format: TextFormat, problems: &[LastingProblem]) -> String {
        let _one_scrape = self.scrape.lock();
        self.problem.clear();
        for problem in problems {
            let upstream = problem.upstream.iter();
            let upstream = upstream.map(|name| ("upstream", name.clone().into()));
            let own = [("call", problem.call.into()), ("code", problem.code.into())];
            self.problem.get_or_create(&upstream.chain(own).collect()).set(1);
        }
        match format {
            TextFormat::OpenMetrics => self.encode(),
            TextFormat::Prometheus => to_prometheus(&self.encode()),
        }
    }

    /// The text of all metrics in OpenMetrics 1.0.
    #[must_use]
    pub fn encode(&self) -> String {
        self.registrar.encode().expect("a String takes any text")
    }
}

impl UpstreamMetrics {
    /// The name of the upstream.
    #[must_use]
    pub fn name(&self) -> &str {
        let [(_, name)] = &self.upstream;
        name
    }

    /// Counts a response.
    pub fn count_response(&self, status: u16) {
        if status == 200 {
            self.ok.inc();
        } else {
            self.count(&self.all.requests, "status", status.to_string().into());
        }
    }

    /// Counts a response of bondgate itself, by its Proxy-Status error type.
    pub fn count_own_response(&self, error: &str) {
        self.count(&self.all.own_answers, "error", error.to_owned().into());
    }

    /// Counts a request that bondgate refused before relaying it, by the code of the problem.
    pub fn count_refusal(&self, code: &'static str) {
        self.all.count_refusal(code);
    }

    /// Counts a token request by its outcome: `ok`, or the kind of failure.
    pub fn count_token_request(&self, outcome: &'static str) {
        self.count(&self.all.token_requests, "outcome", outcome.into());
    }

    /// Records the token's state, out of all `states`.
    pub fn set_token_state(&self, current: &'static str, states: &[&'static str]) {
        for &state in states {
            let labels = self.labels("state", state.into());
            let is_current = i64::from(state == current);
            self.all.token_state.get_or_create(&labels).set(is_current);
        }
    }

    /// Records when the token in use expires, in seconds since 1970.
    pub fn set_token_expiry(&self, seconds: f64) {
        self.all.token_expiry.get_or_create(&self.upstream).set(seconds);
    }

    /// Records how many seconds the identity service's clock is ahead of ours.
    pub fn set_clock_skew(&self, seconds: i64) {
        self.all.clock_skew.get_or_create(&self.upstream).set(seconds);
    }

    fn count(&self, family: &Family<Labels<2>, Counter>, label: &'static str, value: Cow<'static, str>) {
        family.get_or_create(&self.labels(label, value)).inc();
    }

    fn labels(&self, label: &'static str, value: Cow<'static, str>) -> Labels<2> {
        let [upstream] = self.upstream.clone();
        [upstream, (label, value)]
    }
}
