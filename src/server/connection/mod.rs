//! Serves one connection: the head filter below hyper, the router above it, request after request.

mod close;
mod delivery;
mod framing;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod head;
mod head_filter;
mod head_wait;
mod host;
mod refusal_responses;
mod serve;
mod service;
mod state;
mod tail;
mod target;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod transport;

pub(super) use self::host::split_port;
pub(super) use self::serve::{refuse, serve};
pub(super) use self::transport::Transport;
