//! bondgate.

pub mod config;
