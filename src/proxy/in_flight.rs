//! Limits concurrent requests. A request holds its permit until the last byte of its response, not only until the head.

use axum::body::Body;
use http::{Request, Response};

use super::caller_identity::Caller;
use super::request_record::RequestRecord;
use crate::config::Limits;
use crate::problems::request::too_many_requests;
use crate::server::{FairSemaphore, LimitReason, ProblemResponse, ProxyErrorType};

/// The limits over all workers and listeners; cheap to clone.
#[derive(Clone)]
pub struct InFlightLimit(FairSemaphore);

impl InFlightLimit {
    /// Limits as configured.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self(FairSemaphore::new(limits.in_flight, limits.per_caller))
    }

    /// Records a permit for a request, or responds to it.
    pub(super) fn respond(&self, request: &Request<Body>) -> Option<Response<Body>> {
        let mut record = RequestRecord::of(request).lock();
        let caller = record.caller.as_ref().and_then(Caller::id);
        let reason = match self.0.acquire(caller) {
            Ok(permit) => {
                record.permit = Some(permit);
                return None;
            }
            Err(LimitReason::Total) => "too many requests at once (limits.in_flight)",
            Err(LimitReason::Caller) => "too many requests at once from this caller (limits.per_caller)",
            Err(LimitReason::Share) => {
                "nearly too many requests at once (limits.in_flight), and this caller already has its share"
            }
        };
        let problem =
            ProblemResponse::not_executed(ProxyErrorType::ConnectionLimitReached, too_many_requests(reason));
        Some(problem.into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::early_response::oneshot;

    /// The record of a request, and the response to it: 204 if it may proceed.
    fn send(limit: &InFlightLimit, name: Option<&str>, address: [u8; 4]) -> (RequestRecord, Response<Body>) {
        let record = RequestRecord::default();
        let caller = Caller {
            name: name.map(Into::into),
            address: Some(address.into()),
            ..Caller::default()
        };
        record.lock().caller = Some(caller);
        let mut request = Request::new(Body::empty());
        request.extensions_mut().insert(record.clone());
        (record, oneshot(|request| limit.respond(request), request))
    }

    #[test]
    fn a_permit_is_held_as_long_as_the_record_and_counts_by_key_or_by_address() {
        let limit = InFlightLimit(FairSemaphore::new(10, 1));
        let status = |name, address| send(&limit, name, address).1.status();
        let (first, response) = send(&limit, Some("erp"), [10, 0, 0, 1]);
        assert_eq!(response.status(), 204);
        let (_, again) = send(&limit, Some("erp"), [10, 0, 0, 2]);
        assert_eq!(again.status(), 503);
        assert!(again.headers().contains_key("retry-after"));
        let (_other, response) = send(&limit, Some("itsm"), [10, 0, 0, 1]);
        assert_eq!(response.status(), 204);
        let (bare, response) = send(&limit, None, [10, 0, 0, 1]);
        assert_eq!(response.status(), 204);
        assert_eq!(status(None, [10, 0, 0, 1]), 503);

        drop(first);
        assert_eq!(status(Some("erp"), [10, 0, 0, 2]), 204);
        drop(bare);
        assert_eq!(status(None, [10, 0, 0, 1]), 204);
    }
}
