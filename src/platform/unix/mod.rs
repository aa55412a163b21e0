//! The interface of `platform` on Unix.

pub mod files;
pub mod hardening;
pub mod inherited_sockets;
pub mod locations;
pub mod machine;
pub mod process_usage;
pub mod processes;
pub mod roots;
pub mod service;
pub mod service_manager;
pub mod shell;
pub mod signals;
pub mod socket;
pub mod system_log;
pub mod terminal;
pub mod unix_socket;

/// Whether this system has unix sockets, file modes, and systemd or its like.
pub const IS_UNIX: bool = true;
