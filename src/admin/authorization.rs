//! Which requests the admin listener accepts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;

use crate::config;
use crate::problems::{Problem, admin as problems};
use crate::server::{HostNames, Peer, ProblemResponse, WebPage, web_page};

/// Who may call the admin listener, and by which names.
pub(super) struct Access {
    allow: Option<Vec<config::Network>>,
    /// The listener's own addresses, from which this machine calls.
    own: Vec<SocketAddr>,
    hosts: HostNames,
}

impl Access {
    pub(super) fn new(admin: &config::Admin, own: &[SocketAddr]) -> Self {
        Self {
            allow: admin.allow.clone(),
            own: own.to_vec(),
            hosts: HostNames::new(admin.hosts.clone(), None),
        }
    }

    /// Whether a caller is on this machine.
    fn is_own(&self, caller: IpAddr) -> bool {
        let caller = caller.to_canonical();
        caller.is_loopback() || self.own.iter().any(|own| own.ip().to_canonical() == caller)
    }

    /// Whether a caller may ask for this path. Health checks of this machine, as of a container, are always answered.
    fn allow(&self, caller: IpAddr, path: &str) -> bool {
        let caller = caller.to_canonical();
        let is_own = self.is_own(caller);
        let is_health = matches!(path, "/livez" | "/readyz");
        let mut allowed = self.allow.iter().flatten();
        self.allow.is_none() || is_own && is_health || allowed.any(|network| network.contains(caller))
    }
}

/// Checks the caller's network, and refuses the requests of web pages. A person may open the page itself.
pub(super) async fn check_caller(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let address = request.extensions().get::<Peer>().and_then(|peer| peer.address);
    if let Some(address) = address
        && !access.allow(address.ip(), request.uri().path())
    {
        let problem = problems::address_refused(address.ip().to_canonical());
        return refuse(StatusCode::FORBIDDEN, problem);
    }
    if web_page(request.headers(), &[]) == Some(WebPage::Request) {
        return refuse(StatusCode::FORBIDDEN, problems::page_refused());
    }
    next.run(request).await
}

/// Checks the Host. `/livez` and `/readyz` accept any: see the router in `mod.rs`.
pub(super) async fn check_host(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if access.hosts.allow(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    refuse(StatusCode::MISDIRECTED_REQUEST, problems::host_refused())
}

/// Refuses callers on other machines.
pub(super) async fn check_local(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let address = request.extensions().get::<Peer>().and_then(|peer| peer.address);
    match address.map(|address| address.ip().to_canonical()) {
        Some(address) if !access.is_own(address) => {
            refuse(StatusCode::FORBIDDEN, problems::only_local(address))
        }
        _ => next.run(request).await,
    }
}

/// A response of ours to a request that is not served.
pub(super) fn refuse(status: StatusCode, problem: Problem) -> Response {
    ProblemResponse::denied(status, problem).into_response()
}
