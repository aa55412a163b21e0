//! What the daemon tells its operator: logs here, numbers in [`metrics`].

mod line;
pub mod metrics;
mod spool;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::path::Path;
use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use rustix::fs::Access;
use tracing_subscriber::EnvFilter;

use self::line::{JsonLine, TextLine};
pub use self::writer::LogThread;
use self::writer::{Lines, Sink, Terms, Writer};
use crate::config::{Log, LogFormat};

/// Logs cannot be written as configured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither one of the five nor a filter.
    #[error("{0:?} is not a level; write error, warn, info, debug or trace")]
    Level(String),
    /// The log file cannot be opened.
    #[error("cannot open {path}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl LogError {
    /// The key that cannot be obeyed.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Level(_) => "log.level",
            Self::File { .. } => "log.file",
        }
    }
}

/// Changes how much is logged while the process runs; cheap to clone.
#[derive(Clone)]
pub struct LogLevel(Option<Arc<dyn Fn(EnvFilter) -> bool + Send + Sync>>);

impl LogLevel {
    /// Takes a level as [`Log::level`] has it.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        if let Some(set) = &self.0 {
            set(filter);
        }
        Ok(())
    }
}

/// Whether a level is one.
pub fn judge_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

/// The process's log, as [`init`] made it.
pub struct Logs {
    level: LogLevel,
    writer: Arc<Writer>,
    is_stderr: bool,
}

impl Logs {
    /// What changes the level.
    #[must_use]
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }

    /// From here on lines are written by a thread of their own, and nobody waits for the log's reader: what it
    /// is too slow for is dropped, and counted. Where there can be no thread, who has a line goes on writing it.
    pub fn start(&self, dropped: &Counter) -> Option<LogThread> {
        let started = self.writer.start(dropped.clone());
        if let Err(error) = &started {
            tracing::warn!(%error, "the log has no thread of its own: a slow reader of it will hold requests up");
        }
        if self.is_stderr && started.is_ok() {
            let writer = self.writer.clone();
            // What tells of a panic would wait for standard error's reader, too.
            std::panic::set_hook(Box::new(move |panic| writer.append(told(panic).as_bytes(), true)));
        }
        started.ok()
    }
}

/// A panic in the words of the standard library.
fn told(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let told = format!("\nthread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
    if backtrace.status() == BacktraceStatus::Captured {
        return format!("{told}stack backtrace:\n{backtrace}");
    }
    told
}

/// Sends the process's log lines where the configuration wants them. Called once, before any other
/// thread runs: what is logged is written at once until [`Logs::start`].
pub fn init(log: &Log) -> Result<Logs, LogError> {
    let filter = filter(&log.level)?;
    let sink = match &log.file {
        None => Sink::Stderr,
        Some(path) => {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|source| LogError::File {
                    path: path.display().to_string(),
                    source,
                })?;
            Sink::File(file)
        }
    };
    let writer = Writer::new(sink, Terms::USUAL);
    let is_stderr = log.file.is_none();
    let colours = is_stderr && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Lines(writer.clone()))
        .with_ansi(colours)
        .with_target(false);
    let (level, begun) = match log.format {
        LogFormat::Text if colours => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (level(move |filter| handle.reload(filter)), builder.try_init())
        }
        LogFormat::Text => {
            let builder = builder.map_event_format(TextLine).with_filter_reloading();
            let handle = builder.reload_handle();
            (level(move |filter| handle.reload(filter)), builder.try_init())
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).map_event_format(JsonLine);
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            (level(move |filter| handle.reload(filter)), builder.try_init())
        }
    };
    Ok(Logs {
        // An error means that a subscriber is there already: a test's own, which stays.
        level: if begun.is_ok() { level } else { LogLevel(None) },
        writer,
        is_stderr,
    })
}

fn level<E>(set: impl Fn(EnvFilter) -> Result<(), E> + Send + Sync + 'static) -> LogLevel {
    LogLevel(Some(Arc::new(move |filter| set(filter).is_ok())))
}

/// Whether [`init`] would do what is asked, without doing it: a log file is not made.
pub fn judge(log: &Log) -> Result<(), LogError> {
    filter(&log.level)?;
    let Some(path) = &log.file else { return Ok(()) };
    let opened = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => may_make(path),
        opened => opened.map(drop),
    };
    opened.map_err(|source| LogError::File {
        path: path.display().to_string(),
        source,
    })
}

fn may_make(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(())
}

/// A bare level is bondgate's own: libraries stay at warnings, since at trace they print whole
/// requests. Directives (`bondgate=debug,hyper=info`) are taken as they are.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Level(level.to_owned());
    if level.contains(['=', ',']) {
        return EnvFilter::try_new(level).map_err(|_| wrong());
    }
    let level: tracing::level_filters::LevelFilter = level.parse().map_err(|_| wrong())?;
    EnvFilter::try_new(format!("warn,bondgate={level}")).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_leaves_libraries_at_warnings() {
        let shown = filter("trace").unwrap().to_string();
        assert!(
            shown.contains("bondgate=trace") && shown.contains("warn"),
            "{shown}"
        );
        assert!(filter("loud").is_err());
    }
}
