//! End-to-end tests: the real program in a process of its own, real sockets, real TLS to a simulator
//! in Cisco's place. Each test's name is a sentence of what holds.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

mod clients;
mod faults;
mod forwarding;
mod framing;
mod harness;
mod headers;
mod raw_upstream;
mod refusals;
mod transfers;
mod wire;
