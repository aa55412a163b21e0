//! `bondgate run`: the daemon.

use std::path::Path;
use std::time::SystemTime;

use tokio::runtime::Runtime;

use super::{ConfigArgs, Exit, load, output, runtime};
use crate::config::ConfigError;
use crate::daemon::{
    BindError, Daemon, Outcome, Source, enter_sandbox, preflight, validate, with_all_faults,
};
use crate::platform::service_manager::ServiceManager;
use crate::platform::signals::{Signal, Signals};
use crate::problems::Problem;
use crate::telemetry::{self, LogHandle};
use crate::tls;
use crate::token::Clock;

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<Exit> {
    // The runtime starts no thread before a task needs one.
    let control = runtime()?;
    let signals = control.block_on(async { Signals::install() })?;
    let file = args.file();
    let mut config = load(file.as_deref()).map_err(with_all_faults)?;
    preflight::fit_descriptors(&mut config)?;
    let log = match telemetry::init(&config.log) {
        Ok(log) => log,
        Err(error) => {
            // The validation reports it with its place, and other faults beside it.
            validate(&config, false).into_warnings()?;
            output::error(format_args!("{}: {error}", error.key));
            return Ok(Exit::Configuration);
        }
    };
    let configuration = file.as_deref().unwrap_or(Path::new("environment"));
    let spool = config.spool.directory.as_deref().unwrap_or(Path::new("memory"));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = %configuration.display(),
        spool = %spool.display(),
        "starting"
    );
    if let Some(error) = tls::clock_problem(SystemTime::now()) {
        tracing::error!(problem = error.code(), %error, "this machine's clock is wrong");
    }
    let mut daemon = match Daemon::bind(config.clone(), &Clock::default()) {
        Ok(daemon) => daemon.supervised(ServiceManager::from_environment()),
        Err(error) => {
            let failed = preflight::check_listeners(&config);
            let problems = failed.iter().map(|(setting, _, error)| error.problem(setting));
            return start_failed(error, &problems.collect::<Vec<_>>());
        }
    };
    // Every socket is bound, and no other thread runs yet.
    let sandbox = enter_sandbox(&config, file.as_deref());
    // Dropped last, after a panic, too.
    let _log_thread = log.start(&daemon.metrics().log_lines_dropped);
    let load_file = file.clone();
    daemon.reload_from(Source {
        load: Box::new(move || load(load_file.as_deref())),
        file,
        sandbox,
        log: log.clone(),
    });
    // Moved there, the runtime is dropped before the log's thread.
    run_to_end(control, daemon, signals, &log)
}

/// Runs a daemon until it has stopped.
pub(super) fn run_to_end(
    control: Runtime,
    daemon: Daemon,
    mut signals: Signals,
    log: &LogHandle,
) -> anyhow::Result<Exit> {
    let outcome = control.block_on(async {
        signals.handle_stop()?;
        daemon.run(async || next_signal(&mut signals, log).await).await
    })?;
    // Does not wait for a worker that was cut short.
    control.shutdown_background();
    Ok(match outcome {
        Outcome::Drained => Exit::Done,
        Outcome::Failed => Exit::Failed,
    })
}

/// Waits for the next signal. The log file is reopened here.
async fn next_signal(signals: &mut Signals, log: &LogHandle) -> Signal {
    let signal = signals.next().await;
    if signal != Signal::Stop {
        log.reopen();
    }
    signal
}

/// Why a daemon does not start: all `problems` of its addresses, if it cannot listen on one.
pub(super) fn start_failed(error: anyhow::Error, problems: &[Problem]) -> anyhow::Result<Exit> {
    match error.downcast_ref::<BindError>() {
        Some(BindError::Refused { .. }) if !problems.is_empty() => {
            problems.iter().for_each(output::problem);
            Ok(Exit::Failed)
        }
        Some(bind @ BindError::Refused { .. }) => Err(bind.problem("address").into()),
        _ if error.is::<ConfigError>() => Err(error),
        _ => {
            output::error(format_args!("{error:#}"));
            Ok(Exit::Configuration)
        }
    }
}
