//! The life of one connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::head_filter::{HeadFilter, Stalled};
use super::service::RouterService;
use super::transport::{CallerTls, Transport};
use crate::problems::request;
use crate::server::active_settings::ActiveSettings;
use crate::server::context::ServerContext;
use crate::server::limits::ConnectionPermit;
use crate::server::peer::Peer;
use crate::server::problem::{ProblemResponse, ProxyErrorType};
use crate::server::stopping::{Phase, Stopping};
use crate::tls::TlsServer;

/// How long a caller beyond the limit may take to send its request head.
const REFUSAL: Duration = Duration::from_secs(1);
/// How long a drain waits for the delivery of a message that can be delivered again.
const LAST_DELIVERY: Duration = Duration::from_secs(1);

/// Serves a connection to its end, or to the end of a drain.
pub(in super::super) async fn serve(
    stream: Box<dyn Transport>,
    tls: Option<Arc<TlsServer>>,
    settings: ActiveSettings,
    peer: Peer,
    permit: ConnectionPermit,
    context: &ServerContext,
) {
    let tls = tls.map(|tls| Box::new(CallerTls::new(&*stream, tls)));
    let mut filter = HeadFilter::new(stream, context, Some(permit));
    let connection = filter.connection.clone();
    let service = RouterService {
        settings,
        tls,
        peer,
        connection: connection.clone(),
        stop: context.stop.clone(),
    };
    let mut woken = pin!(wake_on_stop(context.stop.clone()));
    loop {
        tokio::select! {
            biased;
            never = &mut woken => match never {},
            () = poll_fn(|cx| filter.poll_head(cx)) => {}
        }
        if !connection.lock().is_serving() {
            break;
        }
        filter.records_spelling = connection.lock().needs_recorded_spelling();
        // In boxes, so that an idle connection does not hold what requests and closing need.
        filter = Box::pin(serve_requests(filter, &service, context, woken.as_mut())).await;
        if connection.lock().is_parked() {
            filter.shrink();
        } else if !filter.is_held_back() {
            break;
        }
    }
    Box::pin(close(filter, &service, context)).await;
}

/// Responds to the first request of a connection with a refusal, and closes it. The refusal is logged for `peer`, if given.
pub(in super::super) async fn refuse(
    stream: Box<dyn Transport>,
    peer: Option<&Peer>,
    settings: &ActiveSettings,
    context: &ServerContext,
    problem: ProblemResponse,
) {
    let mut filter = HeadFilter::new(stream, context, None);
    let _ = tokio::time::timeout(REFUSAL, poll_fn(|cx| filter.poll_head(cx))).await;
    // A malformed head is refused already; a silent connection is closed without a response.
    let is_refused = filter.connection.lock().refusal().is_some();
    if !is_refused && !filter.input.is_empty() {
        filter.refuse(problem);
    }
    if let Some(peer) = peer {
        log_refusal(&filter, peer, settings, context);
    }
    let _ = filter.close(std::future::pending()).await;
}

/// Lets hyper serve requests, until the connection is parked or ends.
async fn serve_requests(
    filter: HeadFilter,
    service: &RouterService,
    context: &ServerContext,
    mut woken: Pin<&mut impl Future<Output = Infallible>>,
) -> HeadFilter {
    let limits = &context.limits;
    let mut builder = http1::Builder::new();
    // The filter enforces the timeouts and limits, and detects callers that are gone; hyper must not be stricter.
    builder
        .header_read_timeout(None)
        .half_close(true)
        .preserve_header_case(filter.records_spelling)
        .title_case_headers(true)
        .max_buf_size((limits.head + (16 << 10)).max(64 << 10));
    if limits.fields > 100 {
        builder.max_headers(limits.fields);
    }
    let respond = service_fn(|request| service.respond(request));
    let mut connection = builder.serve_connection(TokioIo::new(filter), respond);
    let mut known = None;
    let result = poll_fn(|cx| {
        // Polled once in each phase, to be woken by the next.
        let phase = context.stop.phase();
        if known.replace(phase) != Some(phase) {
            let _ = woken.as_mut().poll(cx);
        }
        // With hyper's shutdown, which flushes and does nothing else with the filter.
        Pin::new(&mut connection).poll(cx)
    })
    .await;
    let filter = connection.into_parts().io.into_inner();
    if let Err(error) = result {
        end_by_error(&filter, &error, &service.peer, context);
    }
    filter
}

fn end_by_error(filter: &HeadFilter, error: &hyper::Error, peer: &Peer, context: &ServerContext) {
    let address = peer.address.map(tracing::field::display);
    let is_unanswered = filter.is_unanswered();
    let mut connection = filter.connection.lock();
    match filter.stalled {
        Some(stalled) => {
            log_stall(stalled, peer, context);
            match stalled {
                Stalled::Response => connection.reset(),
                Stalled::RequestBody => connection.close(),
            }
        }
        None if is_unanswered && !is_of_caller(error) => {
            let error = error as &(dyn std::error::Error + 'static);
            tracing::error!(
                address,
                error,
                "response could not be written, 502 sent in its place; please report it"
            );
            connection.replace_response(unwritable());
        }
        None => {
            tracing::debug!(%error, "connection ended early");
            connection.abort();
        }
    }
}

/// Whether the caller caused an error, and gets no response.
fn is_of_caller(error: &hyper::Error) -> bool {
    let mut causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    !error.is_user() && causes.any(<dyn std::error::Error>::is::<std::io::Error>)
}

fn unwritable() -> ProblemResponse {
    let problem = request::bug("bondgate could not write the response to this request");
    ProblemResponse::may_have_been_executed(
        StatusCode::BAD_GATEWAY,
        ProxyErrorType::ProxyInternalError,
        problem,
    )
}

/// Closes the connection, and logs a refusal or a stalled delivery.
async fn close(filter: HeadFilter, service: &RouterService, context: &ServerContext) {
    let peer = &service.peer;
    log_refusal(&filter, peer, &service.settings, context);
    let mut stop = context.stop.clone();
    let is_repeatable = filter
        .observer
        .as_ref()
        .is_none_or(|observer| observer.is_repeatable());
    let cut_off = async {
        if !is_repeatable {
            return stop.reached(Phase::Deadline).await;
        }
        stop.reached(Phase::Draining).await;
        tokio::time::sleep(LAST_DELIVERY).await;
    };
    if let Err(stalled) = filter.close(cut_off).await {
        log_stall(stalled, peer, context);
    }
}

fn log_refusal(filter: &HeadFilter, peer: &Peer, settings: &ActiveSettings, context: &ServerContext) {
    if let Some(problem) = filter.connection.lock().refusal() {
        let (status, code) = (problem.status.as_u16(), problem.problem.code());
        context.metrics.refused_heads.inc();
        context.metrics.count_refusal(code);
        context.record_refusal(settings, peer, status, code);
        tracing::info!(
            listener = &*settings.load().label,
            address = peer.address.map(tracing::field::display),
            status,
            problem = code,
            detail = problem.detail(),
            "request head refused"
        );
    }
}

fn log_stall(stalled: Stalled, peer: &Peer, context: &ServerContext) {
    context.metrics.stalled_connections.inc();
    let address = peer.address.map(tracing::field::display);
    match stalled {
        Stalled::Response => tracing::info!(
            address,
            "caller read nothing of its response for limits.stall, connection reset"
        ),
        Stalled::RequestBody => tracing::info!(
            address,
            "request body made no progress for limits.stall after its response, connection closed"
        ),
    }
}

/// Wakes the connection's task when a drain begins and at its deadline. The filter reads the phase itself.
async fn wake_on_stop(mut stop: Stopping) -> Infallible {
    stop.reached(Phase::Draining).await;
    stop.reached(Phase::Deadline).await;
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use axum::body::Body;
    use axum::routing::{MethodRouter, any};
    use bytes::Bytes;
    use http::header::CONTENT_LENGTH;
    use http::{HeaderValue, Request, Response};
    use http_body::Frame;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config::Config;
    use crate::problems::request::too_many_connections;
    use crate::server::{self, ConnectionLimit, Listener, ListenerSettings, stopping};
    use crate::telemetry::metrics::Metrics;

    /// Responds with something that hyper's server cannot write.
    fn unwritable(respond: fn(Body) -> Response<Body>) -> MethodRouter {
        use http_body_util::{BodyExt as _, Collected};
        let handler = async move |request: Request<Body>| {
            let body = request.into_body().collect().await;
            respond(Body::from(body.map(Collected::to_bytes).unwrap_or_default()))
        };
        any(handler)
    }

    /// A body of unknown length, and a length that is no number.
    fn with_two_lengths(_: Body) -> Response<Body> {
        let mut response = Response::new(Body::new(Unknown(false)));
        let length = HeaderValue::from_static("2, 2");
        response.headers_mut().insert(CONTENT_LENGTH, length);
        response
    }

    fn with_a_broken_body(_: Body) -> Response<Body> {
        Response::new(Body::new(Unknown(true)))
    }

    struct Unknown(bool);

    impl http_body::Body for Unknown {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(self.0.then(|| Err(std::io::ErrorKind::UnexpectedEof.into())))
        }
    }

    async fn responses(app: fn(Body) -> Response<Body>, request: &str) -> String {
        exchange(unwritable(app), request).await
    }

    /// Everything that a caller of the router receives.
    async fn exchange(router: MethodRouter, request: &str) -> String {
        let text = "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n\
                    [[listener]]\naddress = \"127.0.0.1:0\"\n";
        let config = Config::parse(text, "test.toml", []).unwrap();
        let listener = Listener::bind(&config.listeners[0].address, 0o660, None, false).unwrap();
        let address = listener.addresses()[0];
        let (_stop, stop) = stopping();
        let context = ServerContext {
            limits: Arc::new(config.limits),
            connections: ConnectionLimit::new(
                config.limits.connections,
                config.limits.refusals,
                too_many_connections,
            ),
            metrics: Metrics::new(),
            activity: Arc::default(),
            stop,
        };
        let settings = ActiveSettings::new(ListenerSettings {
            router,
            ..ListenerSettings::default()
        });
        let called = async {
            let mut caller = TcpStream::connect(address).await.unwrap();
            caller.write_all(request.as_bytes()).await.unwrap();
            let mut all = String::new();
            caller.read_to_string(&mut all).await.unwrap();
            all
        };
        tokio::select! {
            _ = server::serve(&listener, settings, context) => unreachable!("it has no end"),
            all = called => all,
        }
    }

    #[tokio::test]
    async fn a_response_that_cannot_be_written_is_a_complete_502() {
        let get = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let old = "GET / HTTP/1.0\r\n\r\n";
        let post = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi";
        for request in [get, old, post] {
            for app in [with_two_lengths as fn(Body) -> _, with_a_broken_body] {
                let response = responses(app, request).await;
                let (head, body) = response.split_once("\r\n\r\n").expect("there is a response");
                assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{response}");
                assert!(head.contains("Proxy-Status: bondgate; error="), "{response}");
                assert!(
                    head.contains(&format!("Content-Length: {}", body.len())),
                    "{response}"
                );
                assert!(head.contains("Connection: close"), "{response}");
                assert!(body.contains("may have executed the request"), "{response}");
            }
        }
    }

    #[tokio::test]
    async fn a_response_sent_before_its_request_has_arrived_is_complete_for_a_slow_reader() {
        const LENGTH: usize = 8 << 20;
        let early = any(async || vec![b'x'; LENGTH]);
        // The rest of the request never arrives.
        let request = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhi";
        let response = exchange(early, request).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Connection: close"), "{head}");
        assert_eq!(body.len(), LENGTH);
    }

    #[tokio::test]
    async fn the_502_follows_an_interim_response_and_has_no_body_for_head() {
        let post = "POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let response = responses(with_two_lengths, &format!("{post}hi")).await;
        let (interim, rest) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(interim, "HTTP/1.1 100 Continue");
        assert!(rest.starts_with("HTTP/1.1 502 "), "{response}");

        let head = "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let twice = |_| {
            let mut response = Response::new(Body::empty());
            for length in ["2", "2"] {
                let length = HeaderValue::from_static(length);
                response.headers_mut().append(CONTENT_LENGTH, length);
            }
            response
        };
        let response = responses(twice, head).await;
        assert!(
            response.starts_with("HTTP/1.1 502 ") && response.ends_with("\r\n\r\n"),
            "{response}"
        );
    }
}
