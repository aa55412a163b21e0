//! The control API: orders over plain HTTP, for people and scripts beside a running simulator.
//!
//! | request | does |
//! |---|---|
//! | `GET /` | tells all this as text |
//! | `POST /messages[?client=ID]` | puts a JSON message, or an array of them, into a queue |
//! | `GET /messages[?client=ID]` | lists a queue |
//! | `DELETE /messages[?client=ID]` | empties it, or all |
//! | `POST /faults` | adds a fault, or an array of them, to the script |
//! | `GET /faults`, `DELETE /faults` | lists what is left, or drops it |
//! | `GET /seen[?last=N]`, `DELETE /seen` | lists the last requests (100), or forgets them |
//! | `POST /revoke[?client=ID]` | revokes a client's tokens, or all |
//! | `PUT /lifetime` | sets the lifetime of new tokens, in seconds |
//! | `POST /advance` | puts the token clock forward, in seconds |
//!
//! Nothing here asks who the caller is. So it is bound to loopback, answers to loopback names only, and never to a
//! web page; and it shows neither secrets nor tokens.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode, Uri};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::faults::{Fault, SCRIPT_LIMIT};
use super::redaction::redacted;
use super::{Handle, Shared, form, locked, reply};

const BODY_LIMIT: usize = 32 * 1024 * 1024;
const SEEN_SHOWN: usize = 100;
/// A hundred years: what is longer is a slip.
const SECONDS_LIMIT: u64 = 100 * 365 * 86_400;

type Shares = State<Arc<Shared>>;
/// An answer, or the answer that says what was wrong and how to mend it.
type Answer = Result<Response, Mistake>;

/// Everything that can be ordered.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(help))
        .route(
            "/messages",
            post(put_messages).get(list_messages).delete(clear_messages),
        )
        .route("/faults", post(add_faults).get(list_faults).delete(clear_faults))
        .route("/seen", get(list_seen).delete(forget_seen))
        .route("/revoke", post(revoke))
        .route("/lifetime", put(set_lifetime))
        .route("/advance", post(advance))
        .method_not_allowed_fallback(async || {
            reply::plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path knows other methods: GET / lists them",
            )
        })
        .fallback(async || reply::plain(StatusCode::NOT_FOUND, "no such path: GET / lists them"))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(loopback_only))
        .with_state(shared)
}

/// Serves a connection to the control address.
pub(super) async fn serve(stream: TcpStream, router: Router) {
    // How a connection to a person's curl ends concerns nobody.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
}

/// Keeps web pages out: a name that only resolves to loopback, and what a browser sends across sites.
async fn loopback_only(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        return reply::plain(
            StatusCode::FORBIDDEN,
            "web pages and browsers are not answered here: use curl",
        );
    }
    if !has_loopback_host(headers) {
        return reply::plain(
            StatusCode::FORBIDDEN,
            "only loopback names are answered here: use http://127.0.0.1, http://[::1] or http://localhost",
        );
    }
    next.run(request).await
}

fn has_loopback_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Some(authority) = host
        .to_str()
        .ok()
        .and_then(|host| host.parse::<http::uri::Authority>().ok())
    else {
        return false;
    };
    let name = authority.host();
    name.eq_ignore_ascii_case("localhost")
        || name
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

async fn help(State(shared): Shares) -> Response<Body> {
    let handle = Handle::new(Arc::clone(&shared));
    reply::plain(StatusCode::OK, &help_text(&handle))
}

fn help_text(handle: &Handle) -> String {
    let control = handle.control_url();
    let cisco = handle.url();
    format!(
        r#"This steers the simulator that stands in for Cisco at {cisco}

Messages to be pulled (add ?client=ID for another client than the first):
  curl {control}/messages
  curl {control}/messages -d '{{"Calls":{{"CustCallID":"INC1","Remarks":"hello"}},"CallStates":{{"ShortName":"Update"}}}}'
  curl -X DELETE {control}/messages

Faults, in order; "times" is 1 if left out, "on" is any, token, push, pull, tspcodes or a path:
  curl {control}/faults -d '{{"on":"token","times":2,"kind":{{"status":{{"code":503}}}}}}'
  curl {control}/faults -d '{{"on":"pull","kind":"reset","after_effect":true}}'
  curl {control}/faults
  curl -X DELETE {control}/faults
Kinds: "hang" "reset" "close" "empty" "truncated_json" "no_access_token" "bad_token"
  {{"slow":{{"ms":500}}}} {{"html":{{"status":502}}}} {{"half":{{"then":"reset|close|hang"}}}}
  {{"status":{{"code":400,"headers":[["Retry-After","5"]],"body":"text"}}}}
  {{"rate_limited":{{"retry_after":5,"reset_in":30}}}} {{"raw":{{"bytes":"no HTTP"}}}}
"after_effect": the request is obeyed first, so a pull loses its message.
"early": the answer does not wait for the request's body.

What was seen, the last 100 or ?last=N:
  curl {control}/seen
  curl -X DELETE {control}/seen

Tokens (?client=ID for one client's):
  curl -X POST {control}/revoke
  curl -X PUT {control}/lifetime -d 60
  curl {control}/advance -d 3600"#
    )
}

async fn put_messages(State(shared): Shares, uri: Uri, body: Bytes) -> Answer {
    let client = client(&shared, &uri)?.map_or_else(|| first_client(&shared), Ok)?;
    let messages = one_or_many::<Value>(&body)?;
    for message in &messages {
        shared.queues.put(&client, Bytes::from(message.to_string()));
    }
    let waiting = shared.queues.len(Some(&client));
    Ok(told(
        &json!({"client": client, "put": messages.len(), "waiting": waiting}),
    ))
}

async fn list_messages(State(shared): Shares, uri: Uri) -> Answer {
    let client = client(&shared, &uri)?.map_or_else(|| first_client(&shared), Ok)?;
    let messages = shared.queues.list(&client).into_iter().map(|message| {
        serde_json::from_slice(&message).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&message)))
    });
    Ok(told(&messages.collect()))
}

async fn clear_messages(State(shared): Shares, uri: Uri) -> Answer {
    let client = client(&shared, &uri)?;
    let dropped = shared.queues.len(client.as_deref());
    shared.queues.clear(client.as_deref());
    Ok(told(&json!({"dropped": dropped})))
}

async fn add_faults(State(shared): Shares, body: Bytes) -> Answer {
    let faults = one_or_many::<Fault>(&body)?;
    let count = faults.len();
    for fault in faults {
        if !shared.faults.add(fault) {
            return Err(mistake(format!(
                "the script is full with {SCRIPT_LIMIT} faults: DELETE /faults empties it"
            )));
        }
    }
    Ok(told(&json!({"added": count})))
}

async fn list_faults(State(shared): Shares) -> Response {
    told(&json!(shared.faults.list()))
}

async fn clear_faults(State(shared): Shares) -> Response {
    let dropped = shared.faults.list().len();
    shared.faults.clear();
    told(&json!({"dropped": dropped}))
}

async fn list_seen(State(shared): Shares, uri: Uri) -> Answer {
    let last = match parameter(&uri, "last")? {
        Some(last) => last
            .parse()
            .map_err(|_| mistake("last is no number: ask for /seen?last=10"))?,
        None => SEEN_SHOWN,
    };
    let seen = shared.record.seen();
    let shown = seen[seen.len().saturating_sub(last)..].iter();
    Ok(told(&shown.map(redacted).collect()))
}

async fn forget_seen(State(shared): Shares) -> Response {
    let dropped = shared.record.seen().len();
    shared.record.forget();
    told(&json!({"dropped": dropped}))
}

async fn revoke(State(shared): Shares, uri: Uri) -> Answer {
    let client = client(&shared, &uri)?;
    let revoked = shared.tokens.revoke(client.as_deref());
    Ok(told(&json!({"revoked": revoked})))
}

async fn set_lifetime(State(shared): Shares, body: Bytes) -> Answer {
    let seconds = seconds(&body)?;
    locked(&shared.settings).token_lifetime = Duration::from_secs(seconds);
    Ok(told(&json!({"lifetime": seconds})))
}

async fn advance(State(shared): Shares, body: Bytes) -> Answer {
    let seconds = seconds(&body)?;
    shared.clock.advance(Duration::from_secs(seconds));
    Ok(told(&json!({"advanced": seconds})))
}

fn told(value: &Value) -> Response {
    reply::json_text(StatusCode::OK, format!("{value:#}\n"))
}

/// What is wrong with an order, and the mend.
#[derive(Debug)]
struct Mistake(String);

impl IntoResponse for Mistake {
    fn into_response(self) -> Response {
        reply::plain(StatusCode::BAD_REQUEST, &self.0)
    }
}

fn mistake(text: impl Into<String>) -> Mistake {
    Mistake(text.into())
}

/// One `T` or an array of them.
fn one_or_many<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, Mistake> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        mistake(format!(
            "the body is not JSON ({error}): quote it for the shell, as in curl -d '{{…}}'"
        ))
    })?;
    let many = match value {
        Value::Array(many) => many,
        one => vec![one],
    };
    let many = many.into_iter().enumerate().map(|(at, one)| {
        T::deserialize(one).map_err(|error| mistake(format!("item {} is not understood: {error}", at + 1)))
    });
    many.collect()
}

fn seconds(body: &[u8]) -> Result<u64, Mistake> {
    std::str::from_utf8(body)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|seconds| *seconds <= SECONDS_LIMIT)
        .ok_or_else(|| mistake("the body is no number of seconds: send it bare, as in curl -d 60"))
}

/// The client that the query names, which must be one of the simulator's.
fn client(shared: &Shared, uri: &Uri) -> Result<Option<String>, Mistake> {
    let Some(client) = parameter(uri, "client")? else {
        return Ok(None);
    };
    let settings = locked(&shared.settings);
    if settings.clients.iter().any(|known| known.id == client) {
        return Ok(Some(client));
    }
    let known: Vec<_> = settings.clients.iter().map(|known| &*known.id).collect();
    Err(mistake(format!(
        "there is no client {client:?}: the clients are {}",
        known.join(", ")
    )))
}

fn first_client(shared: &Shared) -> Result<String, Mistake> {
    shared
        .first_client()
        .ok_or_else(|| mistake("there is no client at all"))
}

/// The value of the one parameter that a query may have.
fn parameter(uri: &Uri, name: &str) -> Result<Option<String>, Mistake> {
    let pairs = form::pairs(uri.query().unwrap_or_default().as_bytes())
        .map_err(|error| mistake(format!("the query cannot be decoded: {error}")))?;
    match <[_; 1]>::try_from(pairs) {
        Ok([(key, value)]) if key == name => Ok(Some(value)),
        Err(pairs) if pairs.is_empty() => Ok(None),
        _ => Err(mistake(format!(
            "the query is not understood: this path takes ?{name}=… alone, or none"
        ))),
    }
}
