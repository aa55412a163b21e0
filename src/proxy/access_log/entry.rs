//! The log line of one request, and its metrics.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body::Body as _;

use super::super::pull::PullOutcome;
use super::super::request_record::{RecordFields, RequestRecord};
use super::explanations::Explanations;
use super::identifiers::{self, CORRELATION};
use crate::server::ProblemResponse;
use crate::telemetry::activity::{Activity, FinishedRequest};
use crate::telemetry::excerpt;
use crate::telemetry::metrics::UpstreamMetrics;

/// The field by which Cisco identifies a request.
static TRANSACTION: HeaderName = HeaderName::from_static("x-transaction-id");

/// The part of a path that is logged, in bytes: lines wait in memory for the log's reader, and every caller can send long
/// ones.
const LONGEST_PATH: usize = 1024;

/// The same of a method: the longest that is registered has 17 bytes.
const LONGEST_METHOD: usize = 32;

/// What the log lines of one listener have in common.
pub(in crate::proxy) struct Settings {
    pub(in crate::proxy) metrics: Arc<UpstreamMetrics>,
    pub(in crate::proxy) explanations: Arc<Explanations>,
    pub(in crate::proxy) activity: Arc<Activity>,
    /// The upstream's name.
    pub(in crate::proxy) upstream: Arc<str>,
    /// The listener's address.
    pub(in crate::proxy) listener: Arc<str>,
    /// Whether a request without `X-Correlation-ID` gets one.
    pub(in crate::proxy) adds_correlation_id: bool,
}

/// The data of a request's log line; written when it is dropped.
pub(super) struct Entry {
    settings: Arc<Settings>,
    began: Instant,
    /// From the arrival of the head to the head of the response.
    head_time: Duration,
    method: Method,
    uri: Uri,
    correlation_id: Option<HeaderValue>,
    /// The correlation id is not the caller's.
    is_added: bool,
    traceparent: Option<HeaderValue>,
    transaction: Option<HeaderValue>,
    record: RequestRecord,
    /// 0 until there is a response.
    status: u16,
    problem: Option<ProblemResponse>,
    pull: Option<PullOutcome>,
    /// The code of the problem that ended the upstream's body.
    pub(super) cut: Option<&'static str>,
    pub(super) response_bytes: u64,
    pub(super) is_complete: bool,
}

impl Entry {
    /// Begins the line of a request, and gives it its correlation id.
    pub(super) fn begin(request: &mut Request<Body>, settings: Arc<Settings>) -> Box<Self> {
        settings.metrics.in_flight.inc();
        let record = RequestRecord::default();
        request.extensions_mut().insert(record.clone());
        let sent = request.headers().get(&CORRELATION);
        let mut correlation_id = sent.filter(|id| !id.is_empty()).cloned();
        let is_added = correlation_id.is_none() && settings.adds_correlation_id;
        if is_added {
            let id = identifiers::new_correlation_id();
            request.headers_mut().insert(&CORRELATION, id.clone());
            correlation_id = Some(id);
        }
        // In a box, since an entry is large and passes from layer to layer.
        Box::new(Self {
            settings,
            began: Instant::now(),
            head_time: Duration::ZERO,
            method: request.method().clone(),
            uri: request.uri().clone(),
            correlation_id,
            is_added,
            traceparent: request.headers().get(&identifiers::TRACE_PARENT).cloned(),
            transaction: None,
            record,
            status: 0,
            problem: None,
            pull: None,
            cut: None,
            response_bytes: 0,
            is_complete: false,
        })
    }

    /// Takes what a response says, counts it, and gives it the request's correlation id if the caller or Cisco did not.
    pub(super) fn follow(mut self: Box<Self>, response: &mut Response<Body>) -> Box<Self> {
        let metrics = &self.settings.metrics;
        self.head_time = self.began.elapsed();
        self.status = response.status().as_u16();
        self.transaction = response.headers().get(&TRANSACTION).cloned();
        self.problem = response.extensions_mut().remove();
        self.pull = response.extensions_mut().remove();
        metrics.count_response(self.status);
        let record = self.record.lock();
        self.observe_durations(record.upstream_time());
        if let Some(problem) = &self.problem {
            metrics.count_own_response(&problem.error.to_string());
            // Every request that is not refused has a permit.
            if record.permit.is_none() {
                metrics.count_refusal(problem.problem.code());
            }
            self.settings
                .explanations
                .explain(&self.settings.upstream, &problem.problem);
        }
        drop(record);
        // With the caller's own id, a response of bondgate that is reported to somebody can be found in the log.
        let needs_id = self.is_added || self.problem.is_some();
        if let (true, Some(id)) = (needs_id, &self.correlation_id) {
            let fields = response.headers_mut();
            fields.entry(&CORRELATION).or_insert_with(|| id.clone());
        }
        // A response to HEAD has no body that could be cut short.
        self.is_complete = response.body().is_end_stream() || self.method == Method::HEAD;
        self
    }

    fn observe_durations(&self, upstream_time: Duration) {
        let metrics = &self.settings.metrics;
        metrics.duration.observe(self.head_time.as_secs_f64());
        metrics
            .own_duration
            .observe(self.head_time.saturating_sub(upstream_time).as_secs_f64());
        if !upstream_time.is_zero() {
            metrics.upstream_duration.observe(upstream_time.as_secs_f64());
        }
    }

    /// Who has made the response, or ended the request without one.
    fn origin(&self) -> &'static str {
        match self.pull {
            _ if self.status == 0 => "caller",
            _ if self.problem.is_some() => "bondgate",
            Some(PullOutcome::Redelivery) => "spool",
            _ => "upstream",
        }
    }

    fn message(&self) -> &'static str {
        if self.status == 0 {
            "caller disconnected before its response"
        } else if self.is_complete {
            "request completed"
        } else {
            "response cut short"
        }
    }

    /// How bad the end of the request is.
    fn severity(&self) -> Severity {
        match self.status {
            503 if self.problem.is_some() => Severity::Failed,
            _ if self.cut.is_some() => Severity::Unknown,
            500.. => Severity::Unknown,
            0 | 400.. => Severity::Failed,
            _ if !self.is_complete => Severity::Failed,
            _ => Severity::Succeeded,
        }
    }
}

/// How bad the end of a request is, which decides the level of its line.
enum Severity {
    Succeeded,
    /// It was refused, or its caller has gone; if it was executed, the caller knows or can find out.
    Failed,
    /// It may have been executed, and its caller has no usable response.
    Unknown,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Entry {
    fn finished<'a>(&'a self, record: &'a RecordFields) -> FinishedRequest<'a> {
        let (caller, options) = (record.caller.as_ref(), record.options.as_ref());
        let upload = record.upload.as_ref();
        let duration = self.began.elapsed();
        let head_time = if self.status == 0 {
            duration
        } else {
            self.head_time
        };
        let upstream_time = record.upstream_time();
        let problem = self.problem.as_ref().map(|problem| problem.problem.code());
        FinishedRequest {
            at: SystemTime::now(),
            upstream: &self.settings.upstream,
            listener: &self.settings.listener,
            caller: caller.and_then(|caller| caller.name.as_ref()),
            address: caller.and_then(|caller| caller.address_text.as_ref()),
            method: excerpt(self.method.as_str(), LONGEST_METHOD),
            path: excerpt(self.uri.path(), LONGEST_PATH),
            rule: options.and_then(|options| options.rule.as_ref()),
            status: self.status,
            origin: self.origin(),
            is_sent: upload.is_some_and(|upload| upload.is_sent()),
            is_complete: self.is_complete,
            request_bytes: upload.map_or(0, |upload| upload.bytes()),
            response_bytes: self.response_bytes,
            duration,
            own_time: head_time.saturating_sub(upstream_time),
            upstream_time,
            problem: problem.or(self.cut),
            correlation_id: self.correlation_id.as_ref().and_then(identifiers::text),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.settings.metrics.in_flight.dec();
        let record = self.record.lock();
        let finished = self.finished(&record);
        self.settings.activity.record(&finished);
        // The message as a field and not as a format: this is the one line that each request has.
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    message = self.message(),
                    upstream = &**finished.upstream,
                    listener = &**finished.listener,
                    caller = finished.caller.map(AsRef::<str>::as_ref),
                    address = finished.address.map(AsRef::<str>::as_ref),
                    method = finished.method,
                    path = finished.path,
                    rule = finished.rule.map(AsRef::<str>::as_ref),
                    status = finished.status,
                    origin = finished.origin,
                    sent = finished.is_sent,
                    pull = self.pull.map(PullOutcome::name),
                    error = self
                        .problem
                        .as_ref()
                        .map(|problem| problem.error.to_string()),
                    problem = finished.problem,
                    request_bytes = finished.request_bytes,
                    response_bytes = finished.response_bytes,
                    duration_ms = milliseconds(finished.duration),
                    upstream_ms = milliseconds(finished.upstream_time),
                    own_ms = milliseconds(finished.own_time),
                    correlation_id = finished.correlation_id,
                    transaction_id = self.transaction.as_ref().and_then(identifiers::text),
                    trace_id = self.traceparent.as_ref().and_then(identifiers::trace_id),
                )
            };
        }
        match self.severity() {
            Severity::Succeeded => line!(info),
            Severity::Failed => line!(warn),
            Severity::Unknown => line!(error),
        }
    }
}
