//! Installs, removes, starts and stops a service, for the operator's commands.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceErrorControl, ServiceExitCode,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceState,
    ServiceStatus, ServiceType,
};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_LEVEL, ERROR_INVALID_SERVICE_CONTROL, ERROR_PROCESS_ABORTED,
    ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_CANNOT_ACCEPT_CTRL, ERROR_SERVICE_NOT_ACTIVE,
};
use windows_sys::Win32::System::Services::{ControlService, SERVICE_CONTROL_PARAMCHANGE, SERVICE_STATUS};

use super::error_code::is;
use super::service_error::ServiceError;

/// How often the state of a service is asked for while it changes.
const POLL: Duration = Duration::from_millis(100);

/// How long a removed service may take to vanish: as long as other programs have it open.
const REMOVAL: Duration = Duration::from_secs(5);

/// The waits before a service that failed is started again; the last one counts for all later failures, too.
const RESTARTS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
];

/// So long without a failure, and the first wait counts again.
const RESTARTS_RESET: Duration = Duration::from_secs(24 * 3600);

/// A service to install.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    /// The name, which its virtual account has, too.
    pub name: String,
    /// The name in the list of services.
    pub display_name: String,
    /// What it does, for the list of services.
    pub description: String,
    /// The program.
    pub program: PathBuf,
    /// The program's arguments.
    pub arguments: Vec<OsString>,
    /// How long it may take to stop before the machine shuts down.
    pub stop_limit: Duration,
}

/// The name of the virtual account of a service: a user with no password, for this service alone.
#[must_use]
pub(super) fn virtual_account(service: &str) -> String {
    format!(r"NT SERVICE\{service}")
}

/// Installs a service that starts soon after the machine, under its virtual account, and again when it fails.
pub(super) fn install(definition: &Definition) -> Result<(), ServiceError> {
    let manager = connect(ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE)?;
    let info = ServiceInfo {
        name: definition.name.clone().into(),
        display_name: definition.display_name.clone().into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: definition.program.clone(),
        launch_arguments: definition.arguments.clone(),
        dependencies: Vec::new(),
        account_name: Some(virtual_account(&definition.name).into()),
        account_password: None,
    };
    // To restart a service is a part of its failure actions, and needs the right to start it.
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START | ServiceAccess::DELETE;
    let service = manager.create_service(&info, access)?;
    configure(&service, definition).inspect_err(|_| {
        // Half a service is none. The first error is the one to report.
        let _ = service.delete();
    })
}

fn configure(service: &Service, definition: &Definition) -> Result<(), ServiceError> {
    service.set_description(&definition.description)?;
    if_known(service.set_delayed_auto_start(true))?;
    if_known(service.set_preshutdown_timeout(definition.stop_limit))?;
    let restart = |delay| ServiceAction {
        action_type: ServiceActionType::Restart,
        delay,
    };
    // A failure is a process that ends without a report. A reported exit code is none, by default.
    if_known(service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(RESTARTS_RESET),
        reboot_msg: None,
        command: None,
        actions: Some(RESTARTS.map(restart).to_vec()),
    }))
}

/// The result of a setting that a system may not have: Wine lacks some that every Windows has.
fn if_known(set: windows_service::Result<()>) -> Result<(), ServiceError> {
    match set {
        Err(error) if is(&error, ERROR_INVALID_LEVEL) => Ok(()),
        set => Ok(set?),
    }
}

/// Stops a service, removes it, and waits until it is gone.
pub(super) fn remove(name: &str, stop_limit: Duration) -> Result<(), ServiceError> {
    let manager = connect(ServiceManagerAccess::CONNECT)?;
    let access = ServiceAccess::STOP | ServiceAccess::QUERY_STATUS | ServiceAccess::DELETE;
    let service = manager.open_service(name, access)?;
    stop_opened(&service, stop_limit)?;
    service.delete()?;
    // It exists as long as it is open.
    drop(service);
    let deadline = Instant::now() + REMOVAL;
    loop {
        match manager
            .open_service(name, ServiceAccess::QUERY_STATUS)
            .map_err(ServiceError::from)
        {
            Err(ServiceError::NotInstalled) => return Ok(()),
            Err(ServiceError::MarkedForDeletion) | Ok(_) if Instant::now() < deadline => sleep(POLL),
            Err(error) => return Err(error),
            Ok(_) => return Err(ServiceError::MarkedForDeletion),
        }
    }
}

/// Starts a service, and waits until it runs. No error if it runs already.
pub(super) fn start(name: &str, limit: Duration) -> Result<(), ServiceError> {
    let service = open(name, ServiceAccess::START | ServiceAccess::QUERY_STATUS)?;
    match service.start::<OsString>(&[]) {
        Err(error) if is(&error, ERROR_SERVICE_ALREADY_RUNNING) => {}
        // This user may start it: the handle is open.
        Err(error) if is(&error, ERROR_ACCESS_DENIED) => return Err(ServiceError::ProgramInaccessible),
        started => started?,
    }
    let status = wait(&service, limit, |state| {
        matches!(state, ServiceState::Running | ServiceState::Stopped)
    })?;
    if status.current_state == ServiceState::Running {
        return Ok(());
    }
    Err(match status.exit_code {
        ServiceExitCode::ServiceSpecific(code) => ServiceError::Ended(code),
        ServiceExitCode::Win32(0) => ServiceError::Ended(0),
        ServiceExitCode::Win32(ERROR_PROCESS_ABORTED) => ServiceError::Aborted,
        ServiceExitCode::Win32(code) => {
            ServiceError::Failed(io::Error::from_raw_os_error(code.cast_signed()))
        }
    })
}

/// Stops a service, and waits until it has ended; before that, for as long until it has started, if it is starting. No
/// error if it does not run.
pub(super) fn stop(name: &str, limit: Duration) -> Result<(), ServiceError> {
    stop_opened(
        &open(name, ServiceAccess::STOP | ServiceAccess::QUERY_STATUS)?,
        limit,
    )
}

fn stop_opened(service: &Service, limit: Duration) -> Result<(), ServiceError> {
    // A service takes no control while it starts.
    wait(service, limit, |state| state != ServiceState::StartPending)?;
    match service.stop() {
        Err(error) if is(&error, ERROR_SERVICE_NOT_ACTIVE) => return Ok(()),
        Err(error) if is_refused(&error) && is_ending(service)? => {}
        requested => {
            requested?;
        }
    }
    wait(service, limit, |state| state == ServiceState::Stopped).map(drop)
}

/// The service does not take this control now.
fn is_refused(error: &windows_service::Error) -> bool {
    is(error, ERROR_SERVICE_CANNOT_ACCEPT_CTRL) || is(error, ERROR_INVALID_SERVICE_CONTROL)
}

fn is_ending(service: &Service) -> Result<bool, ServiceError> {
    let state = service.query_status()?.current_state;
    Ok(matches!(state, ServiceState::StopPending | ServiceState::Stopped))
}

/// Asks a running service to reload its configuration (the control PARAMCHANGE).
#[allow(unsafe_code)] // windows-service has no function for this control.
pub(super) fn reload(name: &str) -> Result<(), ServiceError> {
    let service = open(name, ServiceAccess::PAUSE_CONTINUE)?;
    let mut status = SERVICE_STATUS::default();
    // SAFETY: the handle is open, and the status is written to a local.
    let code = unsafe { ControlService(service.raw_handle(), SERVICE_CONTROL_PARAMCHANGE, &raw mut status) };
    if code != 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error().into())
}

/// The state of a service: `running`, `stopped`, …, and its process.
pub(super) fn status(name: &str) -> Result<(&'static str, Option<u32>), ServiceError> {
    let status = open(name, ServiceAccess::QUERY_STATUS)?.query_status()?;
    let process = status.process_id.filter(|id| *id != 0);
    Ok((describe(status.current_state), process))
}

/// Whether the service control manager can be reached.
pub(super) fn is_reachable() -> Result<(), ServiceError> {
    connect(ServiceManagerAccess::CONNECT).map(drop)
}

fn connect(access: ServiceManagerAccess) -> Result<ServiceManager, ServiceError> {
    Ok(ServiceManager::local_computer(None::<&str>, access)?)
}

fn open(name: &str, access: ServiceAccess) -> Result<Service, ServiceError> {
    Ok(connect(ServiceManagerAccess::CONNECT)?.open_service(name, access)?)
}

/// Waits until the service has come to a state, for this long at most.
fn wait(
    service: &Service,
    limit: Duration,
    is_done: impl Fn(ServiceState) -> bool,
) -> Result<ServiceStatus, ServiceError> {
    let deadline = Instant::now() + limit;
    loop {
        let status = service.query_status()?;
        if is_done(status.current_state) {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            let state = describe(status.current_state);
            return Err(ServiceError::TimedOut { state, limit });
        }
        sleep(POLL);
    }
}

fn describe(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Stopped => "stopped",
        ServiceState::StartPending => "starting",
        ServiceState::StopPending => "stopping",
        ServiceState::Running => "running",
        ServiceState::ContinuePending | ServiceState::PausePending | ServiceState::Paused => "paused",
    }
}
