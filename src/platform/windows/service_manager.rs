//! Reports the daemon's state to the service control manager.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::service_process::{self, StateReporter};

/// How often a stop in progress is reported, and how soon the manager expects it.
const PROGRESS: Duration = Duration::from_secs(2);
const PROGRESS_LIMIT: Duration = Duration::from_secs(20);

/// The service control manager, if it started the process; by default it did not.
#[derive(Debug, Default)]
pub struct ServiceManager {
    reporter: Option<Arc<StateReporter>>,
    is_stopping: AtomicBool,
}

impl ServiceManager {
    /// The service control manager, if this process runs as a service.
    #[must_use]
    pub fn from_environment() -> Self {
        Self {
            reporter: service_process::reporter(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Callers are served, after a start or a reload. A reload that ends during a stop does not undo that state.
    pub fn ready(&self) {
        if let Some(reporter) = &self.reporter
            && !self.is_stopping.load(Ordering::Relaxed)
        {
            reporter.running();
        }
    }

    /// A reload has begun: a service has no state for it.
    pub fn reloading(&self) {}

    /// A stop has begun.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        self.ping_watchdog();
    }

    /// The daemon is alive: a stop makes progress.
    pub fn ping_watchdog(&self) {
        if let Some(reporter) = &self.reporter
            && self.is_stopping.load(Ordering::Relaxed)
        {
            reporter.stopping(PROGRESS_LIMIT);
        }
    }

    /// How often to call [`ping_watchdog`](Self::ping_watchdog).
    #[must_use]
    pub fn ping_interval(&self) -> Option<Duration> {
        self.reporter.as_ref().map(|_| PROGRESS)
    }
}
