//! `bondgate run`: the daemon.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::runtime::Runtime;

use super::{ConfigArgs, Exit, check, load, output, runtime};
use crate::config::{Config, ConfigError};
use crate::daemon::{
    BindError, Daemon, Outcome, Source, enter_sandbox, preflight, validate, with_all_faults,
};
use crate::platform::service_manager::ServiceManager;
use crate::platform::signals::{Signal, Signals};
use crate::problems::{Problem, Severity, machine};
use crate::spool::{self, OpenError};
use crate::telemetry::{self, LogHandle, program};
use crate::tls;
use crate::token::Clock;

/// Reads the configuration, as it is now.
pub(super) type Load = fn(Option<&Path>) -> Result<Config, ConfigError>;

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<Exit> {
    run_with(args.file(), load)
}

/// Runs a daemon whose configuration is read by `load`.
pub(super) fn run_with(file: Option<PathBuf>, load: Load) -> anyhow::Result<Exit> {
    // The runtime starts no thread before a task needs one.
    let control = runtime()?;
    let signals = control.block_on(async { Signals::install() })?;
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
        version = program::VERSION,
        commit = program::COMMIT,
        configuration = %configuration.display(),
        spool = %spool.display(),
        "starting"
    );
    if let Some(error) = tls::clock_problem(SystemTime::now()) {
        tracing::error!(problem = error.code(), %error, "this machine's clock is wrong");
    }
    let mut daemon = match Daemon::bind(config.clone(), &Clock::default()) {
        Ok(daemon) => daemon
            .supervised(ServiceManager::from_environment())
            .with_log(log.recent()),
        Err(error) => {
            let problems = problems_of_start(&error, &config);
            if config.log.file.is_some() {
                for problem in &problems {
                    tracing::error!(problem = problem.code(), error = %problem, "start failed");
                }
            }
            return start_failed(error, &problems);
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

/// What keeps a daemon from starting, if it is an address or the spool: all of these.
fn problems_of_start(error: &anyhow::Error, config: &Config) -> Vec<Problem> {
    if let (Some(_), Some(directory)) = (error.downcast_ref::<OpenError>(), &config.spool.directory) {
        let mut problems = spool::check(directory);
        problems.retain(|problem| problem.entry().severity == Severity::Error);
        if problems.is_empty() {
            let reason = error.root_cause().to_string();
            problems.push(machine::spool_unusable(directory.display(), reason));
        }
        return problems;
    }
    match error.downcast_ref() {
        Some(bind @ (BindError::NotInherited(_) | BindError::NoGroup(_))) => vec![bind.problem("address")],
        Some(BindError::Refused { .. }) => check::listen_problems(config),
        None => Vec::new(),
    }
}

/// Prints why a daemon does not start: the problems of its addresses and its spool, if it is these.
pub(super) fn start_failed(error: anyhow::Error, problems: &[Problem]) -> anyhow::Result<Exit> {
    let bind = error.downcast_ref::<BindError>();
    let is_refused = matches!(bind, Some(BindError::Refused { .. }));
    problems.iter().for_each(output::problem);
    match bind {
        Some(bind) if problems.is_empty() => output::problem(&bind.problem("address")),
        None if error.is::<ConfigError>() => return Err(error),
        None if problems.is_empty() => output::error(format_args!("{error:#}")),
        _ => {}
    }
    Ok(if is_refused {
        Exit::Failed
    } else {
        Exit::Configuration
    })
}
