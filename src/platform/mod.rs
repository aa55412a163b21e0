//! What only one operating system has, behind a plain interface. Imports nothing of the crate.

pub mod allocator;
pub mod files;
pub mod hardening;
pub mod inherited_sockets;
pub mod sandbox;
pub mod service_manager;
pub mod signals;
pub mod socket;
pub mod unix_socket;
