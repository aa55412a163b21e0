//! Sets up the log as `[log]` configures it: level, format, and file or standard error.
//!
//! A reload changes the level and SIGUSR1 reopens the file, both through the [`LogHandle`]; the format is fixed at the
//! start.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::path::Path;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

use super::line::{LineForm, LineFormatter};
use super::log_sink::Sink;
use super::log_writer::{DroppedLines, LogThread, LogWriter, PAUSE};
use super::recent::{RecentLog, RecentReportsLayer};
use super::system_log::SystemLogLayer;
use crate::config::{Log, LogFormat};
use crate::platform;
use crate::platform::system_log::{self, SystemLog};
use crate::problems::{Problem, configuration, files};

/// The log cannot be written as configured.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct LogError {
    /// The configuration key at fault.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// The process's log, set up by [`init`]; cheap to clone.
#[derive(Clone)]
pub struct LogHandle {
    /// None if a test has set its own subscriber.
    level: Option<reload::Handle<Targets, Registry>>,
    writer: LogWriter,
}

impl LogHandle {
    /// Starts the log's thread, which writes the lines from now on. If its reader is too slow, lines are dropped and
    /// counted. A panic is logged, too: the standard hook would wait for standard error's reader.
    #[must_use]
    pub fn start(&self, dropped: &DroppedLines) -> LogThread {
        let thread = self.writer.start(dropped, PAUSE);
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            let is_captured = backtrace.status() == BacktraceStatus::Captured;
            let backtrace = is_captured.then(|| tracing::field::display(&backtrace));
            tracing::error!(%panic, backtrace, "bug in bondgate, please report it");
        }));
        thread
    }

    /// Changes the level to one as in [`Log::level`].
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level)?;
        if let Some(handle) = &self.level {
            // It fails only without the subscriber, when nothing is logged any more.
            let _ = handle.reload(filter);
        }
        Ok(())
    }

    /// The recent log.
    #[must_use]
    pub fn recent(&self) -> RecentLog {
        self.writer.recent().clone()
    }

    /// Opens the log file again by its path, in the log's thread, after log rotation has moved it. The result is logged.
    pub fn reopen(&self) {
        self.writer.reopen();
    }
}

/// Sends the process's log lines to the configured place. Called once, before any other thread runs; lines are
/// written at once until [`LogHandle::start`].
pub fn init(log: &Log) -> Result<LogHandle, LogError> {
    let filter = filter(&log.level)?;
    let sink = match &log.file {
        None => Sink::stderr(),
        Some(path) => {
            refuse_pipe(path)?;
            Sink::file(path, log.rotate.as_ref())
        }
    };
    let path = log.file.as_deref().unwrap_or(Path::new("standard error"));
    let writer = LogWriter::new(sink.map_err(|error| cannot_open(path, &error))?);
    let is_terminal = log.file.is_none() && io::stderr().is_terminal();
    let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
    let (filter, level) = reload::Layer::new(filter);
    let reports = RecentReportsLayer(writer.recent().reports.clone());
    let subscriber = Registry::default().with(filter).with(reports);
    let lines = fmt::layer().with_writer(writer.clone());
    // An error means that a test has set its own subscriber, which stays.
    let form = form(log, is_terminal);
    let formatter = LineFormatter(form);
    let started = match SystemLog::of_this_service() {
        Some(system_log) => subscriber
            .with(lines.event_format(formatter))
            .with(SystemLogLayer(system_log))
            .try_init(),
        None if has_colours && form == LineForm::Text => subscriber.with(lines.with_target(false)).try_init(),
        None => subscriber.with(lines.event_format(formatter)).try_init(),
    };
    Ok(LogHandle {
        level: started.is_ok().then_some(level),
        writer,
    })
}

/// The form of a line: as configured, else for people where they read it, and for programs elsewhere.
fn form(log: &Log, is_terminal: bool) -> LineForm {
    let is_for_people = || is_terminal || log.file.is_none() && system_log::is_standard_error();
    match log.format {
        LogFormat::Text => LineForm::Text,
        LogFormat::Auto if is_for_people() => LineForm::Text,
        LogFormat::Auto | LogFormat::Json => LineForm::Json,
    }
}

/// Checks that the log file can be appended to, and rotated if it is to be, without creating it.
pub fn check_file(log: &Log) -> Result<(), LogError> {
    let Some(path) = &log.file else { return Ok(()) };
    refuse_pipe(path)?;
    let opened = match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_creatable(path),
        opened => opened.map(drop),
    };
    opened.map_err(|error| cannot_open(path, &error))?;
    if log.rotate.is_none() || !path.is_file() {
        return Ok(());
    }
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    check_creatable(&target).map_err(|error| LogError {
        key: "log.rotate",
        problem: configuration::log_file_not_writable(directory(&target).display(), &error),
    })
}

/// A pipe without a reader blocks whoever opens it.
fn refuse_pipe(path: &Path) -> Result<(), LogError> {
    if platform::files::is_pipe(path) {
        let key = "log.file";
        let problem = files::not_regular(path.display());
        return Err(LogError { key, problem });
    }
    Ok(())
}

fn cannot_open(path: &Path, error: &io::Error) -> LogError {
    LogError {
        key: "log.file",
        problem: configuration::log_file_not_writable(path.display(), error),
    }
}

/// Checks that a level is one of [`Log::level`].
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

fn check_creatable(path: &Path) -> io::Result<()> {
    platform::files::check_writable_directory(directory(path))
}

fn directory(path: &Path) -> &Path {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new("."))
}

/// A level alone applies to bondgate; libraries stay at warnings, since at trace they print whole requests.
/// Directives (`bondgate=debug,hyper=info`) apply as they are.
fn filter(level: &str) -> Result<Targets, LogError> {
    let wrong = || LogError {
        key: "log.level",
        problem: configuration::log_level_wrong(format!("{level:?}")),
    };
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
