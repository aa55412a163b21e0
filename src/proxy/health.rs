//! Responds on a listener's `health` path, for load balancers. The path needs no access control, and its requests leave no
//! log line: one comes every few seconds.

use axum::body::Body;
use http::{Request, Response};

/// 200 for the health path, where one is configured.
pub(super) fn respond(path: Option<&str>, request: &Request<Body>) -> Option<Response<Body>> {
    (path == Some(request.uri().path())).then(|| Response::new(Body::from("ok\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::early_response::oneshot;

    #[test]
    fn only_requests_for_the_health_path_get_its_response() {
        for (configured, path, expected) in [
            (Some("/healthz"), "/healthz", 200),
            (Some("/healthz"), "/healthz/", 204),
            (None, "/healthz", 204),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = oneshot(|request| respond(configured, request), request);
            assert_eq!(response.status(), expected, "{configured:?} {path}");
        }
    }
}
