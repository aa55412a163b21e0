//! Where the files of bondgate are by default.

use std::path::PathBuf;

/// The folder of the configuration of a service.
#[must_use]
pub fn configuration() -> PathBuf {
    let data = std::env::var_os("ProgramData").unwrap_or_else(|| r"C:\ProgramData".into());
    PathBuf::from(data).join("bondgate")
}

/// The folder of the log of a service.
#[must_use]
pub fn log() -> PathBuf {
    configuration().join("log")
}

/// The folder of the spool of a service.
#[must_use]
pub fn spool() -> PathBuf {
    configuration().join("spool")
}
