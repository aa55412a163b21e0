//! The simulated services: the routes, and the layers that every request passes.

pub(super) mod endpoint;
mod form;
mod identity;
pub(super) mod messages;
pub(super) mod queues;
pub(super) mod responses;
mod smart_bonding;
pub(super) mod tokens;
pub(super) mod transfers;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, any, get, on, post};
use tower::ServiceBuilder;

use super::exchange::{read_body, record};
use super::fault::inject::inject;
use super::simulation::Handle;
use endpoint::{PULL_PATH, PUSH_PATH, TOKEN_PATH, TSP_CODES_PATH};
use smart_bonding::{authorize, transaction_id};

/// The identity service and the Smart Bonding API. A request passes the layers from top to bottom.
pub(super) fn router(simulation: Handle) -> Router {
    let layers = ServiceBuilder::new()
        .layer(from_fn_with_state(simulation, record))
        .layer(from_fn(inject))
        .layer(from_fn(read_body))
        .layer(DefaultBodyLimit::disable());
    let api_layers = ServiceBuilder::new()
        .layer(from_fn(transaction_id))
        .layer(from_fn(authorize));
    let method_not_allowed = async || responses::message(405, "Method Not Allowed");
    let pull = on(MethodFilter::GET.or(MethodFilter::POST), smart_bonding::pull);
    let token = post(identity::token).fallback(identity::method_not_allowed);
    Router::new()
        .route(PUSH_PATH, post(smart_bonding::push))
        // A HEAD must not take a message; axum would pass it to the handler of GET.
        .route(PULL_PATH, pull.head(method_not_allowed))
        .route(TSP_CODES_PATH, get(smart_bonding::tsp_codes))
        .route("/simulator/bytes/{count}", get(transfers::bytes))
        .route("/simulator/sink", post(transfers::sink).put(transfers::sink))
        .route("/simulator/echo", any(transfers::echo))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(api_layers)
        // Without a bearer too: the path of a token request may be wrong.
        .fallback(async || responses::message(404, "Resource not found"))
        .route(TOKEN_PATH, token)
        .layer(layers)
}
