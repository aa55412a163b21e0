//! The layer that decides whether a caller may send a request: by network and user, by Host and browser fields, by key,
//! and by the upstream's rules for method and path. It refuses everything that is not allowed.

mod caller;
mod key;
mod path;
mod policy;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use futures_util::future::Either;
use http::{Request, Response};
use tower::{Layer, Service};

use self::policy::Policy;
use crate::config::{self, KeysError};

pub(super) use self::caller::{Caller, CallerCell, caller_of};
#[cfg(any(test, fuzzing))]
pub(super) use self::path::PlainPath;
pub use self::path::{RuleError, validate_rules};
pub(super) use self::policy::RouteOptions;
#[cfg(any(test, fuzzing))]
pub(super) use self::policy::is_loop;

/// Admits the requests that one listener's policy allows; cheap to clone.
///
/// An admitted request carries its [`RouteOptions`] as an extension. The caller is put into the request's
/// [`CallerCell`], refused or not.
#[derive(Clone)]
pub struct AuthorizationLayer(Arc<Policy>);

impl AuthorizationLayer {
    /// The policy of a listener for its upstream. `admin` is the admin listener's URL, which refusals name.
    pub fn new(
        listener: &config::Listener,
        upstream: &config::Upstream,
        admin: &str,
    ) -> Result<Self, KeysError> {
        Ok(Self(Arc::new(Policy::new(listener, upstream, admin)?)))
    }
}

impl<S> Layer<S> for AuthorizationLayer {
    type Service = Authorization<S>;

    fn layer(&self, inner: S) -> Authorization<S> {
        Authorization {
            inner,
            policy: self.0.clone(),
        }
    }
}

/// See [`AuthorizationLayer`].
#[derive(Clone)]
pub struct Authorization<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S> Service<Request<Body>> for Authorization<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Ready<Result<Response<Body>, Infallible>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut caller = self.policy.caller(&request);
        let authorized = self.policy.authorize(&mut caller, &request);
        if let Some(cell) = request.extensions().get::<CallerCell>() {
            cell.set(caller);
        }
        match authorized {
            Ok(options) => {
                request.extensions_mut().insert(options);
                Either::Right(self.inner.call(request))
            }
            Err(refusal) => Either::Left(ready(Ok(refusal.into_response()))),
        }
    }
}
