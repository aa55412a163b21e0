//! The Smart Bonding API: push, pull and the TSP codes, for clients that hold a token.
//!
//! As with Cisco's, a push that is taken may still be wrong: what is wrong with it comes back by pull. And a pull
//! takes its message off the queue for good, whether or not the answer arrives.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::answer::Bearer;
use super::behaviour::EmptyQueue;
use super::{Shared, locked, messages, reply};

/// Where tickets are pushed to.
pub(super) const PUSH_PATH: &str = "/sb-partner-oauth-proxy-api/rest/v1/push/call";
/// Where ticket updates are pulled from.
pub(super) const PULL_PATH: &str = "/sb-partner-oauth-proxy-api/rest/v1/pull/call";
/// Where the TSP codes are.
pub(super) const TSP_CODES_PATH: &str = "/sb-partner-oauth-proxy-api/tsp/api/v1/xylem/tspcodes";

/// How many messages a client's queue holds; the oldest are dropped.
pub const QUEUE_KEPT: usize = 100_000;

const TSP_CODES: u32 = 19_000;

/// Takes a ticket; what becomes of it is learnt by pull.
pub(super) async fn push(
    State(shared): State<Arc<Shared>>,
    Extension(Bearer(client)): Extension<Bearer>,
    body: Bytes,
) -> Response<Body> {
    let ticket: Value = match serde_json::from_slice(&body) {
        Ok(ticket) => ticket,
        Err(error) => {
            return reply::message(StatusCode::BAD_REQUEST, &format!("The body is not JSON: {error}"));
        }
    };
    if !ticket.is_object() {
        return reply::message(
            StatusCode::BAD_REQUEST,
            "The body is not a JSON object: send {\"Calls\":{…},\"CallStates\":{…},…}",
        );
    }
    let outcome = messages::outcome(&client, &ticket, SystemTime::now());
    shared.queues.put(&client, Bytes::from(outcome.to_string()));
    reply::message(StatusCode::OK, "Message received and queued for processing")
}

/// Hands out the oldest message of the client's queue.
pub(super) async fn pull(
    State(shared): State<Arc<Shared>>,
    Extension(Bearer(client)): Extension<Bearer>,
) -> Response<Body> {
    if let Some(message) = shared.queues.take(&client) {
        return reply::json_text(StatusCode::OK, message);
    }
    match shared.settings().behaviour.empty_queue {
        EmptyQueue::Message => reply::message(StatusCode::OK, "No messages available to Send"),
        EmptyQueue::NoContent => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
    }
}

/// Lists every TSP code, in one unpaged reply of several megabytes.
pub(super) async fn tsp_codes(State(shared): State<Arc<Shared>>) -> Response<Body> {
    let codes = shared.tsp_codes.get_or_init(all_tsp_codes);
    reply::json_text(StatusCode::OK, codes.clone())
}

/// The messages that wait to be pulled, a queue a client.
#[derive(Debug, Default)]
pub(super) struct Queues(Mutex<HashMap<String, VecDeque<Bytes>>>);

impl Queues {
    pub(super) fn put(&self, client: &str, message: Bytes) {
        let mut queues = locked(&self.0);
        let queue = queues.entry(client.to_owned()).or_default();
        queue.push_back(message);
        if queue.len() > QUEUE_KEPT {
            queue.pop_front();
        }
    }

    fn take(&self, client: &str) -> Option<Bytes> {
        locked(&self.0).get_mut(client)?.pop_front()
    }

    /// What waits for `client`, oldest first.
    pub(super) fn list(&self, client: &str) -> Vec<Bytes> {
        let queues = locked(&self.0);
        let queue = queues.get(client).into_iter().flatten();
        queue.cloned().collect()
    }

    /// How many messages wait, for `client` or for everybody.
    pub(super) fn len(&self, client: Option<&str>) -> usize {
        let queues = locked(&self.0);
        let queues = queues
            .iter()
            .filter(|(owner, _)| client.is_none_or(|client| client == *owner));
        queues.map(|(_, queue)| queue.len()).sum()
    }

    /// Empties the queue of `client`, or every queue.
    pub(super) fn clear(&self, client: Option<&str>) {
        locked(&self.0).retain(|owner, _| client.is_some_and(|client| client != owner));
    }
}

fn all_tsp_codes() -> Bytes {
    const TECHNOLOGIES: [&str; 8] = [
        "Routing Protocols",
        "LAN Switching",
        "Wireless",
        "Security - Network Firewalls",
        "Unified Communications",
        "Data Center and Storage Networking",
        "Optical Networking",
        "Network Management",
    ];
    const PROBLEMS: [&str; 6] = [
        "Configuration Assistance",
        "Error Messages, Logs, Debugs",
        "Hardware Failure",
        "Interoperability",
        "Password Recovery",
        "Software Failure",
    ];
    let mut text = String::with_capacity(5_000_000);
    text.push_str("{\"tspCodes\":[");
    for number in 0..TSP_CODES {
        let technology = TECHNOLOGIES[number as usize % TECHNOLOGIES.len()];
        let problem = PROBLEMS[number as usize / TECHNOLOGIES.len() % PROBLEMS.len()];
        let separator = if number == 0 { "" } else { "," };
        write!(
            text,
            "{separator}{{\"tspCode\":\"TSP{number:06}\",\"techId\":{},\"techName\":\"{technology}\",\
             \"subTechId\":{},\"subTechName\":\"{technology} - Series {:04}\",\
             \"problemCode\":\"{}\",\"problemDescription\":\"{problem}\",\"status\":\"Active\"}}",
            1 + number as usize % TECHNOLOGIES.len(),
            10_000 + number / 6,
            number / 6,
            problem.to_uppercase().replace([' ', ','], "_"),
        )
        .expect("a String takes every write");
    }
    text.push_str("]}");
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tsp_codes_are_nineteen_thousand_in_several_megabytes_and_always_the_same() {
        let text = all_tsp_codes();
        let codes: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(codes["tspCodes"].as_array().unwrap().len(), 19_000);
        assert!(text.len() > 3_000_000, "{}", text.len());
        assert_eq!(text, all_tsp_codes());
    }

    #[test]
    fn a_queue_is_first_in_first_out_and_its_clients_own() {
        let queues = Queues::default();
        queues.put("a", Bytes::from_static(b"1"));
        queues.put("a", Bytes::from_static(b"2"));
        queues.put("b", Bytes::from_static(b"3"));
        assert_eq!(queues.len(None), 3);
        assert_eq!(queues.take("a").as_deref(), Some(&b"1"[..]));
        assert_eq!(queues.list("a"), [Bytes::from_static(b"2")]);
        queues.clear(Some("a"));
        assert_eq!(queues.take("a"), None);
        assert_eq!(queues.len(Some("b")), 1);
        assert_eq!(queues.take("unknown"), None);
    }
}
