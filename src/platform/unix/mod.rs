//! The interface of `platform` on Unix.

pub mod files;
pub mod hardening;
pub mod inherited_sockets;
pub mod locations;
pub mod processes;
pub mod service_manager;
pub mod signals;
pub mod socket;
pub mod terminal;
pub mod unix_socket;
