//! bondgate.

pub mod config;
pub mod telemetry;
pub mod tls;
pub mod token;
