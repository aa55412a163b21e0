//! bondgate.

pub mod config;
pub mod proxy;
pub mod server;
pub mod simulator;
pub mod telemetry;
pub mod tls;
pub mod token;
