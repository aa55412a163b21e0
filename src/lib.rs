//! bondgate.

pub mod admin;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod proxy;
pub mod server;
pub mod simulator;
pub mod telemetry;
pub mod tls;
pub mod token;
