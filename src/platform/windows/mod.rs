//! The interface of `platform` on Windows, and what it is made of.

mod access_control;
mod access_list;
mod account;
mod error_code;
mod event_log;
mod exclusive_address;
mod exposure;
mod file_locks;
pub mod files;
pub mod hardening;
pub mod inherited_sockets;
mod listening_program;
mod local_memory;
pub mod locations;
pub mod machine;
mod privacy;
pub mod process_usage;
pub mod processes;
pub mod roots;
mod security_descriptor;
mod self_test;
pub mod service;
mod service_control;
mod service_error;
mod service_folder;
pub mod service_manager;
mod service_process;
pub mod shell;
pub mod signals;
pub mod socket;
pub mod system_log;
mod tcp_info;
pub mod terminal;
pub mod unix_socket;
mod wide;

/// Whether this system has unix sockets, file modes, and systemd or its like.
pub const IS_UNIX: bool = false;
