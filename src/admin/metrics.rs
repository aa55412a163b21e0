//! The response on `/metrics`.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::authorization::refuse;
use crate::problems::request::bug;
use crate::telemetry::metrics::{Metrics, TextFormat};

/// The metrics, in the format that the scraper asks for.
pub(super) async fn respond(metrics: Arc<Metrics>, headers: &HeaderMap) -> Response {
    let accept = headers.get_all(ACCEPT).iter().map(HeaderValue::to_str);
    let accept: Vec<_> = accept.filter_map(Result::ok).collect();
    let format = TextFormat::accepted(&accept.join(","));
    // Listing the open files of the process takes a while if there are thousands.
    let text = tokio::task::spawn_blocking(move || metrics.text(format)).await;
    match text {
        Ok(text) => ([(CONTENT_TYPE, format.content_type()), (VARY, "accept")], text).into_response(),
        Err(_) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            bug("bondgate could not read its metrics"),
        ),
    }
}
