//! The endpoints of the simulated Cisco and their paths.

use serde::Serialize;

/// The token endpoint.
pub(crate) const TOKEN_PATH: &str = "/oauth2/default/v1/token";
/// Tickets are pushed here.
pub(crate) const PUSH_PATH: &str = "/sb-partner-oauth-proxy-api/rest/v1/push/call";
/// Ticket updates are pulled from here.
pub(crate) const PULL_PATH: &str = "/sb-partner-oauth-proxy-api/rest/v1/pull/call";
/// The list of TSP codes.
pub(crate) const TSP_CODES_PATH: &str = "/sb-partner-oauth-proxy-api/tsp/api/v1/xylem/tspcodes";

/// The endpoint that a request addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// The token endpoint of the identity service.
    Token,
    /// Push a ticket.
    Push,
    /// Pull a ticket update.
    Pull,
    /// The list of TSP codes.
    TspCodes,
    /// The simulator's own endpoints below `/simulator/`.
    Transfer,
    /// A path without an endpoint.
    #[default]
    Other,
}

impl Endpoint {
    pub(crate) fn of(path: &str) -> Self {
        match path {
            TOKEN_PATH => Endpoint::Token,
            PUSH_PATH => Endpoint::Push,
            PULL_PATH => Endpoint::Pull,
            TSP_CODES_PATH => Endpoint::TspCodes,
            _ if path.starts_with("/simulator/") => Endpoint::Transfer,
            _ => Endpoint::Other,
        }
    }
}
