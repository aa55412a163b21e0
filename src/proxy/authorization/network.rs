//! Checks where a caller is: its address, and at a unix socket its user.

use super::forbidden;
use crate::config::Listener;
use crate::problems::request;
use crate::proxy::caller_identity::{Caller, is_in};
use crate::server::ProblemResponse;

/// Refuses a caller whose address is not in the listener's `allow`.
pub(super) fn check_address(listener: &Listener, caller: &Caller) -> Result<(), ProblemResponse> {
    let Some(allow) = &listener.allow else {
        return Ok(());
    };
    match caller.address {
        Some(address) if is_in(allow, address) => Ok(()),
        Some(address) => Err(forbidden(request::address_refused(address))),
        None => Err(forbidden(request::address_unknown())),
    }
}

/// Refuses a caller whose user is not in the listener's `users`.
pub(super) fn check_user(listener: &Listener, caller: &Caller) -> Result<(), ProblemResponse> {
    let user = caller.user;
    if listener.users.is_empty() || user.is_some_and(|user| listener.users.contains(&user)) {
        return Ok(());
    }
    let id = user.map_or_else(String::new, |user| format!(" {user}"));
    Err(forbidden(request::user_refused(id)))
}
