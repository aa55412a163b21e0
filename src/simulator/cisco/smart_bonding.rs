//! The Smart Bonding API: its layers (transaction id, bearer check), push, pull and the TSP codes.
//!
//! Like Cisco's, it accepts a push with errors and reports them by pull, and a pull removes its message from the
//! queue whether or not the response arrives.

use std::sync::LazyLock;
use std::time::SystemTime;

use axum::Extension;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::tokens::Tokens;
use super::{messages, responses};
use crate::simulator::exchange::InProgress;
use crate::simulator::options::{BearerRejection, EmptyQueue};

/// The client whose token authorized a request.
#[derive(Debug, Clone)]
pub(super) struct Bearer(String);

/// Accepts requests with exactly one valid bearer.
pub(super) async fn authorize(Extension(exchange): InProgress, mut request: Request, next: Next) -> Response {
    let simulation = &exchange.simulation;
    match client(&simulation.tokens, request.headers()) {
        Ok(client) => {
            exchange.update(|seen| seen.token_client = Some(client.clone()));
            request.extensions_mut().insert(Bearer(client));
            next.run(request).await
        }
        Err(reason) => match simulation.options().bearer_rejection {
            BearerRejection::Unauthorized => responses::message(401, reason),
            BearerRejection::Mashery => {
                let code = [("x-mashery-error-code", "ERR_403_NOT_AUTHORIZED")];
                (code, responses::html(403)).into_response()
            }
        },
    }
}

fn client(tokens: &Tokens, headers: &HeaderMap) -> Result<String, &'static str> {
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
    let [value] = values[..] else {
        return Err("Unauthorized: send exactly one Authorization header");
    };
    let token = value.to_str().unwrap_or_default().strip_prefix("Bearer ");
    let token = token.ok_or("Unauthorized: the Authorization header is not 'Bearer' and a token")?;
    let client = tokens.client_of(token);
    client.ok_or("Unauthorized: the token is unknown, expired or revoked")
}

/// Adds an `x-transaction-id` to the response for a request with an `x-correlation-id`.
pub(super) async fn transaction_id(request: Request, next: Next) -> Response {
    let is_correlated = request.headers().contains_key("x-correlation-id");
    let response = next.run(request).await;
    if !is_correlated {
        return response;
    }
    let id = format!("{:032x}", fastrand::u128(..));
    ([("x-transaction-id", id)], response).into_response()
}

/// Accepts a ticket; a pull returns the result.
pub(super) async fn push(
    Extension(exchange): InProgress,
    Extension(Bearer(client)): Extension<Bearer>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice::<Map<String, Value>>(&body) {
        Ok(ticket) => {
            let reply = messages::reply(&client, &ticket.into(), SystemTime::now());
            exchange.simulation.queues.put(&client, reply.to_string().into());
            responses::message(200, "Message received and queued for processing")
        }
        Err(error) => {
            let text = format!("Send a JSON object, {{\"Calls\":{{…}},\"CallStates\":{{…}},…}}: {error}");
            responses::message(400, &text)
        }
    }
}

/// Removes the oldest message from the client's queue and returns it.
pub(super) async fn pull(
    Extension(exchange): InProgress,
    Extension(Bearer(client)): Extension<Bearer>,
) -> Response {
    if let Some(message) = exchange.simulation.queues.take(&client) {
        return responses::json(200, message);
    }
    match exchange.simulation.options().empty_queue {
        EmptyQueue::Message => responses::message(200, "No messages available to Send"),
        EmptyQueue::NoContent => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Lists every TSP code, in one response of several megabytes without pages.
pub(super) async fn tsp_codes() -> Response {
    static TSP_CODES: LazyLock<Bytes> = LazyLock::new(all_tsp_codes);
    responses::json(200, TSP_CODES.clone())
}

fn all_tsp_codes() -> Bytes {
    const TECHNOLOGIES: [&str; 3] = ["LAN Switching", "Routing Protocols", "Wireless"];
    const PROBLEMS: [&str; 3] = ["Configuration Assistance", "Hardware Failure", "Software Failure"];
    let codes = (0..19_000).map(|number| {
        let technology = TECHNOLOGIES[number % TECHNOLOGIES.len()];
        let problem = PROBLEMS[number / TECHNOLOGIES.len() % PROBLEMS.len()];
        json!({
            "tspCode": format!("TSP{number:06}"),
            "techId": number % TECHNOLOGIES.len() + 1,
            "techName": technology,
            "subTechId": 10_000 + number / 6,
            "subTechName": format!("{technology} - Series {:04}", number / 6),
            "problemCode": problem.to_uppercase().replace(' ', "_"),
            "problemDescription": problem,
            "status": "Active",
        })
    });
    let codes: Value = codes.collect();
    json!({"tspCodes": codes}).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_nineteen_thousand_tsp_codes_in_several_megabytes_and_always_the_same() {
        let text = all_tsp_codes();
        let codes: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(codes["tspCodes"].as_array().unwrap().len(), 19_000);
        assert!(text.len() > 3_000_000, "{}", text.len());
        assert_eq!(text, all_tsp_codes());
    }
}
