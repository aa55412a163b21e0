//! `bondgate run`: the daemon.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{ConfigArgs, Exit, load, runtime};
use crate::daemon::{BindError, Daemon, Outcome, StartError, StopSignals};
use crate::process;
use crate::sandbox::Sandbox;
use crate::supervisor::Supervisor;
use crate::telemetry;
use crate::token::Clock;

/// SIGTERM and SIGINT. SIGHUP is taken too, so that it does not end the daemon.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to listen; within a runtime.
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

impl StopSignals for Signals {
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::warn!("a changed configuration needs a restart: SIGHUP does nothing yet");
                }
            }
        }
    }
}

pub(super) fn run(args: ConfigArgs) -> anyhow::Result<Exit> {
    let file = args.file();
    let mut config = match load(file.as_deref()) {
        Ok(config) => config,
        Err(exit) => return Ok(exit),
    };
    config.fit(process::raise_descriptors());
    if let Err(error) = telemetry::init(&config.log) {
        eprintln!("bondgate: {}: {:#}", error.key(), anyhow::Error::new(error));
        return Ok(Exit::Configuration);
    }
    let supervisor = Supervisor::of(|name| std::env::var_os(name));
    let daemon = match Daemon::bind(config.clone(), &Clock::default()) {
        Ok(daemon) => daemon.supervised(supervisor),
        Err(error) => {
            return Ok(refused(
                error,
                "set address in [[listener]] or [admin], or BONDGATE_LISTEN or BONDGATE_ADMIN",
            ));
        }
    };
    // Every socket is bound, and no other thread runs yet: not even the runtime's.
    let _sandbox = Sandbox::enter(&config, file.as_deref());
    let runtime = runtime()?;
    let outcome = runtime.block_on(async { daemon.run(Signals::new()?).await })?;
    // A worker that was cut short is not waited for.
    runtime.shutdown_background();
    Ok(exit(outcome))
}

/// Tells why a daemon does not start; `mend` says how another address is chosen.
pub(super) fn refused(error: StartError, mend: &str) -> Exit {
    let is_taken = matches!(error, StartError::Bind(BindError::InUse { .. }));
    let is_system = matches!(
        error,
        StartError::Bind(BindError::InUse { .. } | BindError::Refused { .. })
    );
    let told = anyhow::Error::new(error);
    if is_taken {
        eprintln!("bondgate: {told:#}; to listen elsewhere, {mend}");
    } else {
        eprintln!("bondgate: {told:#}");
    }
    if is_system {
        Exit::Failed
    } else {
        Exit::Configuration
    }
}

pub(super) fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Drained => Exit::Done,
        Outcome::Forced | Outcome::Lost | Outcome::Failed => Exit::Failed,
    }
}
