//! What the daemon reports to its operator: the log here, numbers in [`metrics`].

mod line;
pub mod metrics;
mod spool;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::Path;

use rustix::fs::Access;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use self::line::LineFormatter;
pub use self::writer::{DroppedLines, LogThread};
use self::writer::{LogWriter, PAUSE, Sink};
use crate::config::{Log, LogFormat};

/// The log cannot be written as configured.
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
        /// The system's error.
        source: io::Error,
    },
}

impl LogError {
    /// The configuration key at fault.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Level(_) => "log.level",
            Self::File { .. } => "log.file",
        }
    }

    fn file(path: &Path, source: io::Error) -> Self {
        let path = path.display().to_string();
        Self::File { path, source }
    }
}

/// Changes the level while the process runs; cheap to clone.
#[derive(Clone)]
pub struct LogLevel(Option<reload::Handle<Targets, Registry>>);

impl LogLevel {
    /// Takes a level as in [`Log::level`].
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        if let Some(handle) = &self.0 {
            // It fails only without the subscriber, when nothing is logged any more.
            let _ = handle.reload(filter);
        }
        Ok(())
    }
}

/// Reopens the log file while the process runs; cheap to clone.
#[derive(Clone)]
pub struct LogFile(LogWriter);

impl LogFile {
    /// Opens the file again by its path, in the log's thread, after log rotation has moved it. The result is logged.
    pub fn reopen(&self) {
        self.0.reopen();
    }
}

/// The process's log, set up by [`init`].
pub struct Logs {
    /// Changes the level.
    pub level: LogLevel,
    /// Reopens the log file.
    pub file: LogFile,
}

impl Logs {
    /// Starts the log's thread, which writes the lines from now on. If its reader is too slow, lines are dropped and
    /// counted. A panic is logged, too: the standard hook would wait for standard error's reader.
    #[must_use]
    pub fn start(&self, dropped: &DroppedLines) -> LogThread {
        let thread = self.file.0.start(dropped, PAUSE);
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            let is_captured = backtrace.status() == BacktraceStatus::Captured;
            let backtrace = is_captured.then(|| tracing::field::display(&backtrace));
            tracing::error!(%panic, backtrace, "bug in bondgate, please report it");
        }));
        thread
    }
}

/// Sends the process's log lines to the configured place. Called once, before any other thread runs; lines are
/// written at once until [`Logs::start`].
pub fn init(log: &Log) -> Result<Logs, LogError> {
    let filter = filter(&log.level)?;
    let sink = match &log.file {
        None => Sink::stderr(),
        Some(path) => Sink::file(path),
    };
    let path = log.file.as_deref().unwrap_or(Path::new("standard error"));
    let writer = LogWriter::new(sink.map_err(|error| LogError::file(path, error))?);
    let is_terminal = log.file.is_none() && io::stderr().is_terminal();
    let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let (filter, level) = reload::Layer::new(filter);
    let subscriber = Registry::default().with(filter);
    let lines = fmt::layer().with_writer(writer.clone());
    // An error means that a test has set its own subscriber, which stays.
    let started = if has_colours && log.format == LogFormat::Text {
        subscriber.with(lines.with_target(false)).try_init()
    } else {
        subscriber
            .with(lines.event_format(LineFormatter(log.format)))
            .try_init()
    };
    Ok(Logs {
        level: LogLevel(started.is_ok().then_some(level)),
        file: LogFile(writer),
    })
}

/// Checks whether [`init`] would succeed, without creating a log file.
pub fn check(log: &Log) -> Result<(), LogError> {
    check_level(&log.level)?;
    let Some(path) = &log.file else { return Ok(()) };
    let opened = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_creatable(path),
        opened => opened.map(drop),
    };
    opened.map_err(|error| LogError::file(path, error))
}

/// Checks a level.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

fn check_creatable(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK)?;
    Ok(())
}

/// A level alone applies to bondgate; libraries stay at warnings, since at trace they print whole requests.
/// Directives (`bondgate=debug,hyper=info`) apply as they are.
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
    let libraries = Targets::new().with_default(LevelFilter::WARN);
    Ok(libraries.with_target("bondgate", level))
}

/// A level, a module's path, or `path=level`.
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
