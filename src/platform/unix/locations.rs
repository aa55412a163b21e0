//! Where the files of bondgate are by default.

use std::path::PathBuf;

/// The folder of the configuration of a service.
#[must_use]
pub fn configuration() -> PathBuf {
    "/etc/bondgate".into()
}

/// The folder of the log of a service that has no other place for it.
#[must_use]
pub fn log() -> PathBuf {
    "/var/log/bondgate".into()
}

/// The folder of the spool of a service.
#[must_use]
pub fn spool() -> PathBuf {
    "/var/lib/bondgate".into()
}
