//! Why a command on a service failed, in the operator's terms.

use std::io;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_FAILED_SERVICE_CONTROLLER_CONNECT, ERROR_SERVICE_DOES_NOT_EXIST,
    ERROR_SERVICE_EXISTS, ERROR_SERVICE_MARKED_FOR_DELETE, ERROR_SERVICE_NOT_ACTIVE,
};

/// Why a command on a service failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The user may not do this.
    #[error(
        "this needs an administrator: run the command in a terminal that was opened with \"Run as administrator\""
    )]
    NotAdministrator,
    /// There is a service of this name.
    #[error("the service is installed already")]
    Exists,
    /// A folder of the service cannot be created, or is not one for it.
    #[error("cannot prepare the folders of the service")]
    Folders(#[source] io::Error),
    /// There is no service of this name.
    #[error("the service is not installed")]
    NotInstalled,
    /// The service was removed while another program had it open.
    #[error(
        "the service is being removed: close the Services window and other programs that show it, and try again"
    )]
    MarkedForDeletion,
    /// The service does not run, so that it cannot take a control.
    #[error("the service is not running")]
    NotRunning,
    /// The account of the service may not run the program.
    #[error(
        "the account of the service may not run the program: move it to where every user may, such as Program Files"
    )]
    ProgramInaccessible,
    /// The process was not started as a service.
    #[error("the process was not started by the service control manager")]
    NotAService,
    /// The service ended while it started, with an exit code of its own.
    #[error("the service ended while it was starting, with exit code {0}")]
    Ended(u32),
    /// The process of the service ended without a report.
    #[error("the process of the service ended while it was starting, and Windows starts it again")]
    Aborted,
    /// The service reported an error of the system when it ended.
    #[error("the service ended while it was starting")]
    Failed(#[source] io::Error),
    /// The service was still in this state when the time was up.
    #[error("the service was still {state} after {} s", .limit.as_secs())]
    TimedOut {
        /// What it was doing.
        state: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// Any other error of the system.
    #[error("the service control manager refused the request")]
    System(#[source] io::Error),
}

impl ServiceError {
    /// Whether the service itself may have written down why.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        matches!(
            self,
            Self::Ended(_) | Self::Aborted | Self::Failed(_) | Self::TimedOut { .. }
        )
    }
}

impl From<windows_service::Error> for ServiceError {
    fn from(error: windows_service::Error) -> Self {
        match error {
            windows_service::Error::Winapi(error) => error.into(),
            other => Self::System(io::Error::other(other)),
        }
    }
}

impl From<io::Error> for ServiceError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error().map(i32::cast_unsigned) {
            Some(ERROR_ACCESS_DENIED) => Self::NotAdministrator,
            Some(ERROR_SERVICE_EXISTS) => Self::Exists,
            Some(ERROR_SERVICE_DOES_NOT_EXIST) => Self::NotInstalled,
            Some(ERROR_SERVICE_MARKED_FOR_DELETE) => Self::MarkedForDeletion,
            Some(ERROR_SERVICE_NOT_ACTIVE) => Self::NotRunning,
            Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) => Self::NotAService,
            _ => Self::System(error),
        }
    }
}
