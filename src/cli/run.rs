//! `bondgate run`: the daemon.

use super::{ConfigArgs, Exit, load, read, runtime};
use crate::daemon::{self, BindError, Daemon, Outcome, Source, enter_sandbox};
use crate::platform::hardening;
use crate::platform::service_manager::ServiceManager;
use crate::platform::signals::{EarlySignals, Request, Signals};
use crate::telemetry::{self, LogHandle};
use crate::token::Clock;

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<Exit> {
    // The runtime starts no thread before a task needs one.
    let control = runtime()?;
    let signals = control.block_on(async { EarlySignals::install() })?;
    let file = args.file();
    let mut config = match load(file.as_deref()) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    config.fit(hardening::raise_descriptor_limit());
    let log = match telemetry::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("bondgate: {}: {error}", error.key);
            return Ok(Exit::Configuration);
        }
    };
    let mut daemon = match Daemon::bind(config.clone(), &Clock::default()) {
        Ok(daemon) => daemon.supervised(ServiceManager::from_environment()),
        Err(error) => {
            return Ok(start_failed(
                &error,
                "set address in [[listener]] or [admin], or BONDGATE_LISTEN or BONDGATE_ADMIN",
            ));
        }
    };
    // Every socket is bound, and no other thread runs yet.
    let sandbox = enter_sandbox(&config, file.as_deref());
    // Dropped last, after a panic, too.
    let _log_thread = log.start(&daemon.metrics().log_lines_dropped);
    let load_file = file.clone();
    daemon.reload_from(Source {
        load: Box::new(move || read(load_file.as_deref())),
        file,
        sandbox,
        log: log.clone(),
    });
    // Moved here, the runtime is dropped before the log's thread.
    let (control, log) = (control, log);
    let outcome = control.block_on(async {
        let signals = DaemonSignals {
            signals: signals.and_stop()?,
            log,
        };
        daemon.run(signals).await
    })?;
    // Does not wait for a worker that was cut short.
    control.shutdown_background();
    Ok(exit(outcome))
}

/// The process's signals for the daemon; the log file is reopened here.
pub(super) struct DaemonSignals {
    pub(super) signals: Signals,
    pub(super) log: LogHandle,
}

impl daemon::Signals for DaemonSignals {
    async fn next(&mut self) -> daemon::Signal {
        loop {
            let request = self.signals.next().await;
            if request == Request::Stop {
                return daemon::Signal::Stop;
            }
            self.log.reopen();
            if request == Request::Reload {
                return daemon::Signal::Reload;
            }
        }
    }
}

/// Prints why a daemon does not start. `fix` says how to choose another address.
pub(super) fn start_failed(error: &anyhow::Error, fix: &str) -> Exit {
    let bind_error = error.downcast_ref::<BindError>();
    if matches!(bind_error, Some(BindError::InUse { .. })) {
        eprintln!("bondgate: {error:#}; to listen elsewhere, {fix}");
    } else {
        eprintln!("bondgate: {error:#}");
    }
    match bind_error {
        Some(BindError::InUse { .. } | BindError::Refused { .. }) => Exit::Failed,
        _ => Exit::Configuration,
    }
}

pub(super) fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Drained => Exit::Done,
        Outcome::Forced | Outcome::Lost | Outcome::Failed => Exit::Failed,
    }
}
