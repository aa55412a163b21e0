//! `bondgate run`: the daemon.

use super::signals::EarlySignals;
use super::{ConfigArgs, Exit, load, read, runtime};
use crate::daemon::{BindError, Daemon, Outcome, Source};
use crate::process;
use crate::sandbox::Sandbox;
use crate::supervisor::Supervisor;
use crate::telemetry;
use crate::token::Clock;

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<Exit> {
    // It starts no thread before a task needs one.
    let idle_runtime = runtime()?;
    let signals = idle_runtime.block_on(async { EarlySignals::new() })?;
    let file = args.file();
    let mut config = match load(file.as_deref()) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    config.fit(process::raise_descriptors());
    let logs = match telemetry::init(&config.log) {
        Ok(logs) => logs,
        Err(error) => {
            eprintln!("bondgate: {}: {:#}", error.key(), anyhow::Error::new(error));
            return Ok(Exit::Configuration);
        }
    };
    let supervisor = Supervisor::of(|name| std::env::var_os(name));
    let mut daemon = match Daemon::bind(config.clone(), &Clock::default()) {
        Ok(daemon) => daemon.supervised(supervisor),
        Err(error) => {
            return Ok(refused(
                &error,
                "set address in [[listener]] or [admin], or BONDGATE_LISTEN or BONDGATE_ADMIN",
            ));
        }
    };
    // Every socket is bound, and no other thread runs yet: not even one of the runtime's.
    let sandbox = Sandbox::enter(&config, file.as_deref());
    // Ends last of all, and with a panic too.
    let _log_thread = logs.start(&daemon.metrics().log_lines_dropped);
    let again = file.clone();
    daemon.reload_from(Source {
        load: Box::new(move || read(again.as_deref())),
        file,
        sandbox,
        level: logs.level(),
    });
    // Moved here, it ends before the log's thread.
    let (runtime, log) = (idle_runtime, logs.file());
    let outcome = runtime.block_on(async { daemon.run(signals.and_stop(log)?).await })?;
    // A worker that was cut short is not waited for.
    runtime.shutdown_background();
    Ok(exit(outcome))
}

/// Reports why a daemon does not start. `fix` says how to choose another address.
pub(super) fn refused(error: &anyhow::Error, fix: &str) -> Exit {
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
