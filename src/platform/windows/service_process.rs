//! The side of the service's own process: it receives controls, and reports its state to the service control manager.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use windows_service::define_windows_service;
use windows_service::service::{
    ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult, ServiceStatusHandle};
use windows_service::service_dispatcher;

use super::service_error::ServiceError;

/// How long a start may take before callers are served.
const START_HINT: Duration = Duration::from_secs(30);

/// The exit codes that another start would have too: usage and configuration. The unit of systemd names the same.
const LASTING: [u32; 2] = [2, 3];

/// What the service control manager requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    /// An orderly stop, by the operator or because the machine shuts down.
    Stop,
    /// To reload the configuration.
    Reload,
}

/// Receives the controls, in their order.
pub(super) type Controls = UnboundedReceiver<Control>;

/// What the process does as a service, until it returns its exit code. 0 is success.
type Main = Box<dyn FnOnce() -> u32 + Send>;

/// What the two functions below need, which the system calls without any context of ours: it starts the one, and the
/// crate frees the context of the other at the first stop although more controls may follow.
static PROCESS: Mutex<Process> = Mutex::new(Process {
    name: String::new(),
    main: None,
    controls: None,
    is_stop_requested: false,
    received: None,
    reporter: None,
});

struct Process {
    name: String,
    main: Option<Main>,
    controls: Option<UnboundedSender<Control>>,
    is_stop_requested: bool,
    /// Until [`take_controls`].
    received: Option<Controls>,
    reporter: Option<Arc<StateReporter>>,
}

/// Runs this process as the service of this name, and returns when the service has stopped. Only the service control
/// manager can start such a process; for any other the error is [`ServiceError::NotAService`].
pub(super) fn run(name: &str, main: impl FnOnce() -> u32 + Send + 'static) -> Result<(), ServiceError> {
    with_process(|process| {
        process.name = String::from(name);
        process.main = Some(Box::new(main));
    });
    Ok(service_dispatcher::start(name, service_main)?)
}

/// The controls, if this process runs as a service; the first call gets them.
pub(super) fn take_controls() -> Option<Controls> {
    with_process(|process| process.received.take())
}

/// Reports the state, if this process runs as a service.
pub(super) fn reporter() -> Option<Arc<StateReporter>> {
    with_process(|process| process.reporter.clone())
}

define_windows_service!(service_main, serve);

/// Called by the system, on a thread of its own.
fn serve(_arguments: Vec<OsString>) {
    let (name, main) = with_process(|process| (process.name.clone(), process.main.take()));
    // Without a handle there is no way to report the error: the manager sees the process end.
    let (Some(main), Ok(handle)) = (main, service_control_handler::register(name, handle_control)) else {
        return;
    };
    let checkpoint = AtomicU32::new(0);
    let reporter = Arc::new(StateReporter { handle, checkpoint });
    reporter.starting(START_HINT);
    let (controls, received) = unbounded_channel();
    with_process(|process| {
        process.controls = Some(controls);
        process.received = Some(received);
        process.reporter = Some(reporter);
    });
    let code = main();
    let is_stop_requested = with_process(|process| process.is_stop_requested);
    match reported(code, is_stop_requested) {
        Some(code) => stopped(handle, code),
        // The manager starts a service again whose process ends without a report.
        None => std::process::exit(code.cast_signed()),
    }
}

/// The exit code to report to the service control manager; `None` if it shall start the service again. After a stop that it
/// requested, requests that were cut short are no failure of the service: the log has them.
fn reported(code: u32, is_stop_requested: bool) -> Option<u32> {
    if is_stop_requested {
        return Some(0);
    }
    (code == 0 || LASTING.contains(&code)).then_some(code)
}

/// Called by the system. It has no context, which the crate would free too early.
fn handle_control(control: ServiceControl) -> ServiceControlHandlerResult {
    let control = match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => Control::Stop,
        ServiceControl::ParamChange => Control::Reload,
        ServiceControl::Interrogate => return ServiceControlHandlerResult::NoError,
        _ => return ServiceControlHandlerResult::NotImplemented,
    };
    with_process(|process| {
        process.is_stop_requested |= control == Control::Stop;
        if let Some(controls) = &process.controls {
            // The service has ended if nothing receives it.
            let _ = controls.send(control);
        }
    });
    ServiceControlHandlerResult::NoError
}

fn with_process<T>(access: impl FnOnce(&mut Process) -> T) -> T {
    access(&mut PROCESS.lock().expect("nothing panics while it holds the lock"))
}

/// Reports the state of the service. Reports are best effort: if one fails, the service goes on.
#[derive(Debug)]
pub(super) struct StateReporter {
    handle: ServiceStatusHandle,
    /// Rises with each report of a pending state, so that the manager sees progress.
    checkpoint: AtomicU32,
}

impl StateReporter {
    /// The service is starting. The next report follows within this time.
    fn starting(&self, next: Duration) {
        self.pending(ServiceState::StartPending, next);
    }

    /// The service is stopping. The next report follows within this time.
    pub(super) fn stopping(&self, next: Duration) {
        self.pending(ServiceState::StopPending, next);
    }

    /// The service runs, and takes controls.
    pub(super) fn running(&self) {
        self.checkpoint.store(0, Ordering::Relaxed);
        let mut status = status(ServiceState::Running);
        // Before a shutdown and not within it, where there are only 5 s.
        status.controls_accepted = ServiceControlAccept::STOP
            | ServiceControlAccept::PRESHUTDOWN
            | ServiceControlAccept::PARAM_CHANGE;
        report(self.handle, status);
    }

    fn pending(&self, state: ServiceState, next: Duration) {
        let mut status = status(state);
        status.checkpoint = self.checkpoint.fetch_add(1, Ordering::Relaxed) + 1;
        status.wait_hint = next;
        report(self.handle, status);
    }
}

fn stopped(handle: ServiceStatusHandle, code: u32) {
    let mut status = status(ServiceState::Stopped);
    if code != 0 {
        status.exit_code = ServiceExitCode::ServiceSpecific(code);
    }
    report(handle, status);
}

fn status(state: ServiceState) -> ServiceStatus {
    ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted: ServiceControlAccept::empty(),
        exit_code: ServiceExitCode::NO_ERROR,
        checkpoint: 0,
        wait_hint: Duration::ZERO,
        process_id: None,
    }
}

fn report(handle: ServiceStatusHandle, status: ServiceStatus) {
    if let Err(error) = handle.set_service_status(status) {
        tracing::debug!(%error, "the service control manager cannot be notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_requested_stop_is_no_failure() {
        assert_eq!(reported(1, true), Some(0));
        assert_eq!(reported(3, true), Some(0));
    }

    #[test]
    fn a_failure_is_followed_by_a_restart_unless_the_configuration_is_its_cause() {
        let codes = [0, 1, 2, 3, 4];
        let codes = codes.map(|code| reported(code, false));
        assert_eq!(codes, [Some(0), None, Some(2), Some(3), None]);
    }
}
