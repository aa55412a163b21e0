//! End-to-end tests: the real program in a process of its own, real sockets, real TLS to a simulator
//! in Cisco's place. Each test's name is a sentence of what holds.

// They drive the program from Unix; `.ci/wine` runs the Windows build's through Wine.
#![cfg(unix)]
// A test that cannot go on has failed; paths are quoted for TOML as Rust quotes them.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::unnecessary_debug_formatting
)]

mod access;
mod access_log;
mod admin;
mod architecture;
mod browser;
mod check;
mod cli;
mod clients;
mod commands;
mod confidential;
mod corporate;
mod demo;
mod door;
mod drain;
mod eviction;
mod faults;
mod fleet;
mod forwarding;
mod framing;
mod handover;
mod harness;
mod headers;
mod init;
mod inside;
mod intermediaries;
mod listeners;
mod live_check;
mod log;
mod machine;
mod malformed;
mod metrics;
mod outage;
mod outbound;
mod overload;
mod problems;
mod queries;
mod raw_upstream;
mod refusals;
mod reload;
mod resolution;
mod responses;
mod restarts;
mod reuse;
mod rotated_log;
mod rotation;
mod sandbox;
mod secrets;
mod shutdown;
mod signals;
mod slow;
mod soak;
mod spool;
mod status_page;
mod supervised;
mod support;
mod tls_callers;
mod tls_listeners;
mod token_reuse;
mod tokens;
mod transfers;
mod unix;
mod upstream_faults;
mod windows;
mod wire;
