//! bondgate.

pub mod config;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod token;
