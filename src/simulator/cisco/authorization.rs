//! The layers of the API: the bearer check and the transaction id.

use axum::Extension;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::responses;
use super::tokens::Tokens;
use crate::simulator::exchange::InProgress;
use crate::simulator::options::BearerRejection;

/// The client whose token authorized a request.
#[derive(Debug, Clone)]
pub(super) struct Bearer(pub(super) String);

/// Accepts requests with exactly one valid bearer.
pub(super) async fn authorize(Extension(exchange): InProgress, mut request: Request, next: Next) -> Response {
    let simulation = exchange.simulation();
    match client(&simulation.tokens, request.headers()) {
        Ok(client) => {
            exchange.update(|seen| seen.token_client = Some(client.clone()));
            request.extensions_mut().insert(Bearer(client));
            next.run(request).await
        }
        Err(reason) => match simulation.options().behaviour.bearer_rejection {
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
