//! The control API, plain HTTP, for people and scripts beside a running simulator.
//!
//! | request | does |
//! |---|---|
//! | `GET /` | returns help as text |
//! | `POST /messages[?client=ID]` | puts a JSON message, or an array of them, into a queue |
//! | `GET /messages[?client=ID]` | lists a queue |
//! | `DELETE /messages[?client=ID]` | empties it, or all |
//! | `POST /faults` | adds a fault, or an array of them, to the script |
//! | `GET /faults`, `DELETE /faults` | lists or drops the remaining faults |
//! | `GET /seen[?last=N]`, `DELETE /seen` | lists the last recorded requests (100), or drops all |
//! | `POST /revoke[?client=ID]` | revokes a client's tokens, or all |
//! | `PUT /lifetime` | sets the lifetime of new tokens, in seconds |
//! | `POST /advance` | brings the expiry of tokens forward, in seconds |
//!
//! Callers are not authenticated. So the API is bound to loopback, accepts only loopback names as Host, refuses
//! browsers, and shows neither secrets nor tokens.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use bytes::Bytes;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cisco::responses;
use super::fault::Fault;
use super::record::redaction::redacted;
use super::simulation::Simulation;

const BODY_LIMIT: usize = 32 * 1024 * 1024;
/// How many faults the script may hold.
const SCRIPT_LIMIT: usize = 10_000;

type Control = State<Arc<Simulation>>;
type BadRequest = (StatusCode, String);
type Reply = Result<Response, BadRequest>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    client: Option<String>,
    last: Option<usize>,
}

pub(super) fn router(simulation: Arc<Simulation>) -> Router {
    let messages = post(put_messages).get(list_messages).delete(clear_messages);
    Router::new()
        .route("/", get(help))
        .route("/messages", messages)
        .route("/faults", post(add_faults).get(list_faults).delete(clear_faults))
        .route("/seen", get(list_seen).delete(forget_seen))
        .route("/revoke", post(revoke))
        .route("/lifetime", put(set_lifetime))
        .route("/advance", post(advance))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, "see GET /\n"))
        .fallback(async || (StatusCode::NOT_FOUND, "see GET /\n"))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(local_only))
        .with_state(simulation)
}

/// Refuses browsers, and names that an attacker's DNS resolves to loopback.
async fn local_only(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let refusal = if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        "requests of browsers are refused: use curl\n"
    } else if !headers.get(HOST).is_some_and(is_loopback) {
        "only loopback names are accepted: use http://127.0.0.1, http://[::1] or http://localhost\n"
    } else {
        return next.run(request).await;
    };
    (StatusCode::FORBIDDEN, refusal).into_response()
}

fn is_loopback(host: &HeaderValue) -> bool {
    Authority::try_from(host.as_bytes()).is_ok_and(|authority| {
        let name = authority.host().trim_matches(['[', ']']);
        let is_address = name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        is_address || name.eq_ignore_ascii_case("localhost")
    })
}

async fn help(State(simulation): Control) -> String {
    let text = include_str!("control_help.txt").replace("CISCO", &simulation.url());
    text.replace("CONTROL", &simulation.control_url())
}

async fn put_messages(State(simulation): Control, Query(query): Query<Parameters>, body: Bytes) -> Reply {
    let client = client_or_first(&simulation, query)?;
    let messages = one_or_many(&body)?;
    for message in &messages {
        simulation.put_raw_message(&client, message.to_string());
    }
    let waiting = simulation.queues.len(Some(&client));
    pretty(json!({"client": client, "put": messages.len(), "waiting": waiting}))
}

async fn list_messages(State(simulation): Control, Query(query): Query<Parameters>) -> Reply {
    let client = client_or_first(&simulation, query)?;
    let messages = simulation.queues.list(&client).into_iter().map(|message| {
        serde_json::from_slice(&message).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&message)))
    });
    pretty(messages.collect())
}

async fn clear_messages(State(simulation): Control, Query(query): Query<Parameters>) -> Reply {
    let client = client(&simulation, query)?;
    pretty(json!({"dropped": simulation.queues.clear(client.as_deref())}))
}

async fn add_faults(State(simulation): Control, body: Bytes) -> Reply {
    let mut added = Vec::new();
    for (at, fault) in one_or_many(&body)?.iter().enumerate() {
        let fault = Fault::parse(fault);
        added.push(fault.map_err(|error| bad_request(format!("item {} is wrong: {error}", at + 1)))?);
    }
    let mut script = simulation.faults();
    if script.len() + added.len() > SCRIPT_LIMIT {
        return Err(bad_request("the script is full: DELETE /faults empties it"));
    }
    let reply = json!({"added": added.len()});
    script.extend(added);
    pretty(reply)
}

async fn list_faults(State(simulation): Control) -> Reply {
    pretty(json!(*simulation.faults()))
}

async fn clear_faults(State(simulation): Control) -> Reply {
    pretty(json!({"dropped": simulation.faults().drain(..).count()}))
}

async fn list_seen(State(simulation): Control, Query(query): Query<Parameters>) -> Reply {
    let mut seen = simulation.seen();
    let last = seen.split_off(seen.len().saturating_sub(query.last.unwrap_or(100)));
    pretty(last.into_iter().map(|seen| json!(redacted(seen))).collect())
}

async fn forget_seen(State(simulation): Control) -> Reply {
    let dropped = simulation.seen().len();
    simulation.forget_seen();
    pretty(json!({"dropped": dropped}))
}

async fn revoke(State(simulation): Control, Query(query): Query<Parameters>) -> Reply {
    let client = client(&simulation, query)?;
    pretty(json!({"revoked": simulation.tokens.revoke(client.as_deref())}))
}

async fn set_lifetime(State(simulation): Control, body: String) -> Reply {
    let seconds = seconds(&body)?;
    simulation.options().token_lifetime = seconds;
    pretty(json!({"lifetime": seconds.as_secs()}))
}

async fn advance(State(simulation): Control, body: String) -> Reply {
    let seconds = seconds(&body)?;
    simulation.tokens.advance(seconds);
    pretty(json!({"advanced": seconds.as_secs()}))
}

#[expect(
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "it ends every handler"
)]
fn pretty(value: Value) -> Reply {
    Ok(responses::json(200, format!("{value:#}\n")))
}

fn bad_request(text: impl Display) -> BadRequest {
    (StatusCode::BAD_REQUEST, format!("{text}\n"))
}

/// A JSON value, or the values of an array.
fn one_or_many(body: &[u8]) -> Result<Vec<Value>, BadRequest> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(many)) => Ok(many),
        Ok(one) => Ok(vec![one]),
        Err(error) => Err(bad_request(format!(
            "the body is not JSON ({error}): quote it for the shell, as in curl -d '{{…}}'"
        ))),
    }
}

fn seconds(body: &str) -> Result<Duration, BadRequest> {
    let seconds = body.trim().parse::<u32>();
    let seconds = seconds.map_err(|error| bad_request(format!("{error}: send seconds, as in curl -d 60")))?;
    Ok(Duration::from_secs(seconds.into()))
}

/// The client that the query names, which must be one of the simulator's.
fn client(simulation: &Simulation, query: Parameters) -> Result<Option<String>, BadRequest> {
    let options = simulation.options();
    let known: Vec<_> = options.clients.iter().map(|known| known.id.as_str()).collect();
    match query.client {
        Some(client) if !known.contains(&client.as_str()) => Err(bad_request(format!(
            "there is no client {client:?}: the clients are {}",
            known.join(", ")
        ))),
        client => Ok(client),
    }
}

fn client_or_first(simulation: &Simulation, query: Parameters) -> Result<String, BadRequest> {
    let client = client(simulation, query)?;
    let first = || simulation.options().clients.first().cloned();
    Ok(client
        .or_else(|| first().map(|first| first.id))
        .unwrap_or_default())
}
