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
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

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
pub struct LogLevel(Option<reload::Handle<Targets, Registry>>);

impl LogLevel {
    /// Takes a level as [`Log::level`] has it.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        if let Some(handle) = &self.0 {
            // It fails where the subscriber has gone, and nothing is logged any more.
            let _ = handle.reload(filter);
        }
        Ok(())
    }
}

/// Opens the log file again while the process runs; cheap to clone.
#[derive(Clone)]
pub struct LogFile(Arc<Writer>);

impl LogFile {
    /// Has the log's thread open the file again by its path, where log rotation has moved it; a log that goes to
    /// standard error stays there. What comes of it is logged.
    pub fn reopen(&self) {
        self.0.reopen();
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

    /// What opens the log file again.
    #[must_use]
    pub fn file(&self) -> LogFile {
        LogFile(self.writer.clone())
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
        Some(path) => Sink::file(path).map_err(|source| LogError::File {
            path: path.display().to_string(),
            source,
        })?,
    };
    let writer = Writer::new(sink, Terms::USUAL);
    let is_stderr = log.file.is_none();
    let colours = is_stderr && io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (filter, level) = reload::Layer::new(filter);
    let subscriber = Registry::default().with(filter);
    let lines = fmt::layer()
        .with_writer(Lines(writer.clone()))
        .with_ansi(colours)
        .with_target(false);
    let begun = match log.format {
        LogFormat::Text if colours => subscriber.with(lines).try_init(),
        LogFormat::Text => subscriber.with(lines.map_event_format(TextLine)).try_init(),
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true).map_event_format(JsonLine);
            subscriber.with(lines).try_init()
        }
    };
    Ok(Logs {
        // An error means that a subscriber is there already: a test's own, which stays.
        level: LogLevel(begun.is_ok().then_some(level)),
        writer,
        is_stderr,
    })
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
fn filter(level: &str) -> Result<Targets, LogError> {
    let wrong = || LogError::Level(level.to_owned());
    if level.contains(['=', ',']) {
        let directives: Vec<&str> = level.split(',').map(str::trim).collect();
        if !directives.iter().all(|directive| is_directive(directive)) {
            return Err(wrong());
        }
        return directives.join(",").parse().map_err(|_| wrong());
    }
    let level: LevelFilter = level.parse().map_err(|_| wrong())?;
    Ok(Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("bondgate", level))
}

/// A level, a module's path, or the one for the other.
fn is_directive(text: &str) -> bool {
    let (target, level) = text.split_once('=').unwrap_or((text, "info"));
    let is_path = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | ':');
    let is_level = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
    !target.is_empty() && target.chars().all(is_path) && is_level
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn a_bare_level_leaves_libraries_at_warnings() {
        let trace = filter("trace").unwrap();
        assert!(trace.would_enable("bondgate::proxy", &Level::TRACE));
        assert!(trace.would_enable("hyper", &Level::WARN) && !trace.would_enable("hyper", &Level::INFO));
        let directives = filter("warn,hyper::proto=debug").unwrap();
        assert!(directives.would_enable("hyper::proto::h1", &Level::DEBUG));
        assert!(!directives.would_enable("bondgate", &Level::INFO));
        let spaced = filter("warn, bondgate=debug").unwrap();
        assert!(spaced.would_enable("bondgate", &Level::DEBUG));
        for wrong in [
            "bondgate=loud",
            "a=b=c",
            "info,",
            ",",
            "bondgate=",
            "=info",
            "[span]=info",
            "a b=info",
        ] {
            assert!(filter(wrong).is_err(), "{wrong}");
        }
        assert!(filter("loud").is_err());
    }
}
