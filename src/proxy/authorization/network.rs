//! Checks where a caller is: its address, and at a unix socket its user.

use super::forbidden;
use crate::config::Listener;
use crate::proxy::caller_identity::{Caller, is_in};
use crate::server::ProblemResponse;

/// Refuses a caller whose address is not in the listener's `allow`.
pub(super) fn check_address(listener: &Listener, caller: &Caller) -> Result<(), ProblemResponse> {
    let Some(allow) = &listener.allow else {
        return Ok(());
    };
    match caller.address {
        Some(address) if is_in(allow, address) => Ok(()),
        Some(address) => Err(forbidden(format!(
            "the caller's address {address} is not in allow of this listener; if it should be, add it there"
        ))),
        None => Err(forbidden(
            "the caller's address is unknown: the trusted proxy did not send a valid one in X-Forwarded-For",
        )),
    }
}

/// Refuses a caller whose user is not in the listener's `users`.
pub(super) fn check_user(listener: &Listener, caller: &Caller) -> Result<(), ProblemResponse> {
    let user = caller.user;
    if listener.users.is_empty() || user.is_some_and(|user| listener.users.contains(&user)) {
        return Ok(());
    }
    let id = user.map_or_else(String::new, |user| format!(" {user}"));
    Err(forbidden(format!(
        "the caller's user id{id} is not in users of this listener; if it should be, add it there"
    )))
}
