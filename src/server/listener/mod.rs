//! Listening sockets, and how a connection that was accepted reaches [`connection`](super::connection).

mod accept;
mod bind;
mod handshake;
mod worker;

pub use self::bind::{BindError, Listener, group_id};
pub use self::worker::{serve, start};
