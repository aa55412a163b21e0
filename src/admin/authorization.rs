//! Which requests the admin listener accepts, and which callers it takes for local.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::config;
use crate::problems::request::bug;
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

    /// Where the sender of a request is, whether or not it is a proxy. A unix socket has no address, and only this machine
    /// can reach it.
    fn sender(&self, peer: &Peer) -> Caller {
        let Some(address) = peer.address.map(|address| address.ip().to_canonical()) else {
            return Caller::Local;
        };
        let mut own = self.own.iter().map(|own| own.ip().to_canonical());
        if address.is_loopback() || own.any(|own| own == address) {
            Caller::Local
        } else {
            Caller::Remote(address)
        }
    }

    /// Whether a peer may ask for this path. Health checks of this machine, as of a container, are always answered.
    fn allow(&self, peer: &Peer, path: &str) -> bool {
        let (Some(allow), Some(address)) = (&self.allow, peer.address) else {
            return true;
        };
        let is_health = matches!(path, "/livez" | "/readyz");
        is_health && self.sender(peer).is_local()
            || allow
                .iter()
                .any(|network| network.contains(address.ip().to_canonical()))
    }
}

/// Where the caller of a request is; an extension of each request that [`check_caller`] accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// On this machine: at a loopback address, at an address of the listener itself, or at a unix socket. It may see what
    /// is for the operator alone: the log, and the names of files, client ids and proxies.
    Local,
    /// Behind a proxy on this machine, so perhaps on another one.
    Relayed,
    /// On another machine.
    Remote(IpAddr),
}

impl Caller {
    pub(super) fn is_local(self) -> bool {
        self == Self::Local
    }
}

/// Checks the caller's network, and refuses the requests of web pages. A person may open the page itself.
pub(super) async fn check_caller(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(peer) = request.extensions().get::<Peer>() else {
        let problem = bug("the admin listener does not know its caller");
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, problem);
    };
    if let Some(address) = peer.address
        && !access.allow(peer, request.uri().path())
    {
        let problem = problems::address_refused(address.ip().to_canonical());
        return refuse(StatusCode::FORBIDDEN, problem);
    }
    if web_page(request.headers(), &[]) == Some(WebPage::Request) {
        return refuse(StatusCode::FORBIDDEN, problems::page_refused());
    }
    let caller = match access.sender(peer) {
        Caller::Local if is_relayed(request.headers()) => Caller::Relayed,
        sender => sender,
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Whether a proxy added a field to a request. Not every proxy does: nginx adds what its configuration says.
fn is_relayed(headers: &HeaderMap) -> bool {
    headers.keys().map(HeaderName::as_str).any(|name| {
        matches!(name, "forwarded" | "via" | "x-forwarded" | "x-real-ip") || name.starts_with("x-forwarded-")
    })
}

/// Checks the Host. `/livez` and `/readyz` accept any: see the router in `mod.rs`.
pub(super) async fn check_host(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if access.hosts.allow(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    refuse(StatusCode::MISDIRECTED_REQUEST, problems::host_refused())
}

/// Refuses callers that are, or may be, on other machines.
pub(super) async fn check_local(
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    match caller {
        Caller::Local => next.run(request).await,
        Caller::Relayed => {
            let problem = problems::only_local("a proxy relayed this request");
            refuse(StatusCode::FORBIDDEN, problem)
        }
        Caller::Remote(address) => {
            let problem = problems::only_local(format_args!("{address} is another one"));
            refuse(StatusCode::FORBIDDEN, problem)
        }
    }
}

/// A response of ours to a request that is not served.
pub(super) fn refuse(status: StatusCode, problem: Problem) -> Response {
    ProblemResponse::denied(status, problem).into_response()
}
