//! bondgate as a service of Windows: its name, its account, its folders, and what an operator does with it.

use std::fs::OpenOptions;
use std::io;
use std::os::windows::io::IntoRawHandle as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use windows_sys::Win32::System::Console::{STD_ERROR_HANDLE, SetStdHandle};

use super::access_control::{self, Access};
use super::account::Account;
use super::processes::is_administrator;
use super::service_control::{self, Definition, virtual_account};
use super::service_folder::claim;
use super::{event_log, locations, self_test, service_process};

pub use super::self_test::Check;
pub use super::service_error::ServiceError;

/// Whether this system has such services.
pub const IS_SUPPORTED: bool = true;

/// The name of the service, and of the source of its events.
const NAME: &str = "bondgate";
/// How long a start may take until callers are served.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a stop may take: longer than `server.drain` by default.
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Creates the private folders of the configuration, the spool and the log. Nothing changes if this user may not install the
/// service, or if it is installed.
pub fn prepare() -> Result<(), ServiceError> {
    if !is_administrator() {
        return Err(ServiceError::NotAdministrator);
    }
    match service_control::status(NAME) {
        Err(ServiceError::NotInstalled) => {}
        status => return Err(status.err().unwrap_or(ServiceError::Exists)),
    }
    for folder in [locations::configuration(), locations::spool(), locations::log()] {
        claim(&folder).map_err(ServiceError::Folders)?;
    }
    Ok(())
}

/// Installs the service, after [`prepare`]. `files` are what the configuration names, which the service's account gets the
/// right to read. Returns what could not be done and is not necessary everywhere.
pub fn install(configuration: &Path, files: &[PathBuf]) -> Result<Vec<String>, ServiceError> {
    service_control::install(&Definition {
        name: NAME.to_owned(),
        display_name: "bondgate".to_owned(),
        description:
            "Relays plain HTTP requests to Cisco's Smart Bonding API over HTTPS, with an OAuth 2.0 token"
                .to_owned(),
        program: std::env::current_exe()?,
        arguments: vec![
            "service".into(),
            "run".into(),
            "--config".into(),
            configuration.into(),
        ],
        stop_limit: STOP_LIMIT,
    })?;
    let writable = [locations::spool(), locations::log()].map(|folder| (folder, Access::Modify));
    let readable = files.iter().cloned().chain([locations::configuration()]);
    let readable = readable.map(|path| (path, Access::Read));
    let mut failed = Vec::new();
    match Account::named(&virtual_account(NAME)) {
        Ok(account) => failed.extend(writable.into_iter().chain(readable).filter_map(|(path, access)| {
            let granted = access_control::grant(&path, &account, access);
            granted
                .err()
                .map(|error| format!("{} for {}: {error}", path.display(), virtual_account(NAME)))
        })),
        Err(error) => failed.push(format!("permissions of the service's account: {error}")),
    }
    if let Err(error) = event_log::register_source(NAME) {
        failed.push(format!("Event Log: {error}"));
    }
    Ok(failed)
}

/// Stops the service and removes it. Its folders stay.
pub fn remove() -> Result<(), ServiceError> {
    service_control::remove(NAME, STOP_LIMIT)?;
    Ok(event_log::unregister_source(NAME)?)
}

/// Starts the service, and waits until callers are served.
pub fn start() -> Result<(), ServiceError> {
    service_control::start(NAME, START_LIMIT)
}

/// Stops the service, and waits until it has drained.
pub fn stop() -> Result<(), ServiceError> {
    service_control::stop(NAME, STOP_LIMIT)
}

/// Asks the service to reload its configuration.
pub fn reload() -> Result<(), ServiceError> {
    service_control::reload(NAME)
}

/// The state of the service, in one word, and its process.
pub fn status() -> Result<(&'static str, Option<u32>), ServiceError> {
    service_control::status(NAME)
}

/// Runs this process as the service, which the service control manager has started; `main` returns the exit code. There is no
/// console: what is written to standard error goes to a file.
pub fn run(errors: &Path, main: impl FnOnce() -> u32 + Send + 'static) -> Result<(), ServiceError> {
    // Without the file, the Event Log still has the exit code.
    let _ = redirect_standard_error(errors);
    service_process::run(NAME, main)
}

#[allow(unsafe_code)] // The standard library cannot replace a standard handle.
fn redirect_standard_error(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    // SAFETY: the handle is open, and stays so: nothing owns it any more.
    let is_set = unsafe { SetStdHandle(STD_ERROR_HANDLE, file.into_raw_handle()) };
    if is_set == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Checks that this machine does what bondgate relies on.
#[must_use]
pub fn self_test() -> Vec<Check> {
    let name = format!("bondgate-self-test-{}", std::process::id());
    self_test::run(NAME, &std::env::temp_dir().join(name))
}
