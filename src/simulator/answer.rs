//! The way of one request through the simulator: enter it in the record, ask the script for a fault, answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::routing::{MethodFilter, any, get, on, post};
use axum::{Extension, Router};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::behaviour::BearerRejection;
use super::connection::Link;
use super::identity::{self, TOKEN_PATH};
use super::record::{Endpoint, Entry, Recorded};
use super::smart_bonding::{self, PULL_PATH, PUSH_PATH, TSP_CODES_PATH};
use super::strike::strike;
use super::tap::RawHead;
use super::{Shared, reply, transfers};

/// The largest body that is taken whole; the endpoints beneath `/simulator/` know no limit.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

/// The client whose token authorised a request.
#[derive(Debug, Clone)]
pub(super) struct Bearer(pub(super) String);

/// Answers requests, for every connection.
#[derive(Debug)]
pub(super) struct Answerer {
    shared: Arc<Shared>,
    router: Router,
}

impl Answerer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let api = Router::new()
            .route(PUSH_PATH, post(smart_bonding::push))
            .route(
                PULL_PATH,
                // A HEAD must not take a message: axum would let it through to what answers GET.
                on(MethodFilter::GET.or(MethodFilter::POST), smart_bonding::pull).head(method_not_allowed),
            )
            .route(TSP_CODES_PATH, get(smart_bonding::tsp_codes))
            .route("/simulator/bytes/{count}", get(transfers::bytes))
            .route("/simulator/sink", post(transfers::sink).put(transfers::sink))
            .route("/simulator/echo", any(transfers::echo))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(Arc::clone(&shared), authorised))
            .layer(middleware::from_fn(transaction));
        let router = Router::new()
            .route(
                TOKEN_PATH,
                post(identity::token).fallback(identity::method_not_allowed),
            )
            .fallback_service(api.with_state(Arc::clone(&shared)))
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&shared));
        Answerer { shared, router }
    }

    pub(super) async fn answer(&self, request: http::Request<Incoming>, link: Arc<Link>) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let head = link.next_head().unwrap_or_else(|| RawHead::from(&parts));
        let endpoint = Endpoint::of(parts.uri.path());
        let entry = self
            .shared
            .record
            .begin(head.clone(), endpoint, link.number(), body.is_end_stream());
        let _running = (endpoint == Endpoint::Token).then(|| self.shared.tokens.enter());
        let fault = self.shared.faults.take(endpoint, parts.uri.path());

        parts.extensions.insert(entry.clone());
        parts.extensions.insert(head);
        let request = http::Request::from_parts(parts, Recorded::new(body, entry.clone()));
        let response = match fault {
            Some(fault) => {
                entry.fault(fault.kind.name());
                strike(fault, endpoint, request, link, |request| {
                    self.plainly(endpoint, request)
                })
                .await
            }
            None => self.plainly(endpoint, request).await,
        };
        entry.answered(response.status());
        response
    }

    /// Reads the request to its end, whatever its answer will be, and answers it. Only the endpoints that stream
    /// see the body come.
    async fn plainly(&self, endpoint: Endpoint, request: http::Request<Recorded>) -> Response<Body> {
        let request = if endpoint == Endpoint::Transfer {
            request.map(Body::new)
        } else {
            let (parts, body) = request.into_parts();
            match Limited::new(body, BODY_LIMIT).collect().await {
                Ok(body) => http::Request::from_parts(parts, Body::from(body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => {
                    return reply::message(StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 MiB");
                }
                Err(error) => return broken_off(error.as_ref()),
            }
        };
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// The answer to a body that cannot be read, for what is left of the client.
pub(super) fn broken_off(error: &dyn std::error::Error) -> Response<Body> {
    reply::message(StatusCode::BAD_REQUEST, &format!("The body broke off: {error}"))
}

/// Lets in requests with exactly one live bearer.
async fn authorised(
    State(shared): State<Arc<Shared>>,
    Extension(entry): Extension<Entry>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    match bearer(&shared, request.headers()) {
        Ok(client) => {
            entry.token_client(&client);
            request.extensions_mut().insert(Bearer(client));
            next.run(request).await
        }
        Err(why) => {
            if let Err(error) = drained(request.into_body()).await {
                return broken_off(&error);
            }
            match shared.settings().behaviour.bearer_rejection {
                BearerRejection::Unauthorized => reply::message(StatusCode::UNAUTHORIZED, why),
                BearerRejection::Mashery => mashery(),
            }
        }
    }
}

fn bearer(shared: &Shared, headers: &HeaderMap) -> Result<String, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or("Unauthorized: no bearer token")?;
    if values.next().is_some() {
        return Err("Unauthorized: more than one Authorization header");
    }
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or("Unauthorized: the Authorization header is not 'Bearer' and a token")?;
    shared
        .tokens
        .client_of(token, shared.clock.now())
        .ok_or("Unauthorized: the token is unknown, expired or revoked")
}

fn mashery() -> Response<Body> {
    let mut response = reply::html(StatusCode::FORBIDDEN);
    response.headers_mut().insert(
        HeaderName::from_static("x-mashery-error-code"),
        HeaderValue::from_static("ERR_403_NOT_AUTHORIZED"),
    );
    response
}

/// A caller's `x-correlation-id` is answered with an `x-transaction-id`.
async fn transaction(request: Request, next: Next) -> Response<Body> {
    let correlated = request.headers().contains_key("x-correlation-id");
    let mut response = next.run(request).await;
    if correlated {
        let id = format!("{:032x}", fastrand::u128(..));
        response.headers_mut().insert(
            HeaderName::from_static("x-transaction-id"),
            HeaderValue::try_from(id).expect("hexadecimal digits are a header value"),
        );
    }
    response
}

async fn method_not_allowed() -> Response<Body> {
    reply::message(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

async fn not_found(body: Body) -> Response<Body> {
    match drained(body).await {
        Ok(()) => reply::message(StatusCode::NOT_FOUND, "Resource not found"),
        Err(error) => broken_off(&error),
    }
}

/// Reads a body to its end.
pub(super) async fn drained<B: http_body::Body + Unpin>(mut body: B) -> Result<(), B::Error> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}
