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

    #[test]
    fn only_requests_for_the_health_path_get_its_response() {
        for (configured, path, expected) in [
            (Some("/healthz"), "/healthz", Some(200)),
            (Some("/healthz"), "/healthz/", None),
            (None, "/healthz", None),
        ] {
            let request = Request::get(path).body(Body::empty()).unwrap();
            let response = respond(configured, &request);
            let status = response.map(|response| response.status().as_u16());
            assert_eq!(status, expected, "{configured:?} {path}");
        }
    }
}
