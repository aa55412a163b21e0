//! Services of Windows, which this system does not have: systemd runs bondgate.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};

/// Whether this system has such services.
pub const IS_SUPPORTED: bool = false;

/// There are no services of Windows.
#[derive(Debug, thiserror::Error)]
#[error(
    "`bondgate service` is for Windows; here systemd runs bondgate: systemctl start bondgate (the guide linux-service.md)"
)]
pub struct ServiceError;

impl ServiceError {
    /// Whether the service itself may have written down why.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        false
    }
}

/// A check of [`self_test`]: there is none.
#[derive(Debug)]
pub struct Check(Infallible);

impl Check {
    /// Whether it failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        match self.0 {}
    }
}

impl fmt::Display for Check {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

/// Fails.
pub fn prepare() -> Result<(), ServiceError> {
    Err(ServiceError)
}

/// Fails.
pub fn install(_configuration: &Path, _files: &[PathBuf]) -> Result<Vec<String>, ServiceError> {
    Err(ServiceError)
}

/// Fails.
pub fn remove() -> Result<(), ServiceError> {
    Err(ServiceError)
}

/// Fails.
pub fn start() -> Result<(), ServiceError> {
    Err(ServiceError)
}

/// Fails.
pub fn stop() -> Result<(), ServiceError> {
    Err(ServiceError)
}

/// Fails.
pub fn reload() -> Result<(), ServiceError> {
    Err(ServiceError)
}

/// Fails.
pub fn status() -> Result<(&'static str, Option<u32>), ServiceError> {
    Err(ServiceError)
}

/// Fails.
pub fn run(_errors: &Path, _main: impl FnOnce() -> u32 + Send + 'static) -> Result<(), ServiceError> {
    Err(ServiceError)
}

/// None.
#[must_use]
pub fn self_test() -> Vec<Check> {
    Vec::new()
}
