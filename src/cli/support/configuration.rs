//! The configuration, as this user can read it, and what the commands say about it.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf, Prefix};
use std::time::{Duration, SystemTime};

use super::command;
use super::daemon::Daemon;
use super::section_text::SectionText;
use super::time_limit::limited;
use crate::cli::check::{self, Service};
use crate::cli::load;
use crate::config::{Config, ConfigError};
use crate::platform::locations;
use crate::problems::files;

/// The configuration of a daemon, or of its next start.
pub(super) struct Configuration {
    file: Option<PathBuf>,
    loaded: Loaded,
    /// The directory that systemd gives the service for its spool.
    state_directory: Option<PathBuf>,
}

/// The configuration with or without faults, or the reason why it was not read.
type Loaded = Result<Result<Config, ConfigError>, String>;

/// The most lines of the list of messages; two for each message.
const MOST_LINES: usize = 400;

impl Configuration {
    /// Reads a file, or the environment alone.
    pub(super) fn read(file: Option<PathBuf>) -> Self {
        let path = file.clone();
        let read = limited("reading the configuration", move || {
            let file = path.as_deref();
            if let Some(pipe) = file.filter(|file| is_stream(file)) {
                return Err(files::not_regular(pipe.display()).cause().to_owned());
            }
            let mut loaded = load(file);
            let service = Service::find(file, &mut loaded);
            Ok((loaded, service.state_directory))
        });
        let (loaded, state_directory) = match read.flatten() {
            Ok((loaded, state_directory)) => (Ok(loaded), state_directory),
            Err(reason) => (Err(reason), None),
        };
        Self {
            file,
            loaded,
            state_directory,
        }
    }

    /// The configuration, without the values at fault; `None` after a syntax error, or if it was not read.
    pub(super) fn config(&self) -> Option<&Config> {
        match self.loaded.as_ref().ok()? {
            Ok(config) => Some(config),
            Err(error) => error.config.as_deref(),
        }
    }

    /// Every value with its source.
    pub(super) fn settings(&self) -> Result<String, String> {
        let loaded = self.loaded.as_ref().map_err(Clone::clone)?;
        let lines = check::settings(loaded).join("\n");
        if lines.is_empty() {
            return Err("it cannot be read; the check says why".to_owned());
        }
        let place = self
            .file
            .as_deref()
            .map_or("environment alone".into(), Path::to_string_lossy);
        let of_faults = match loaded {
            Ok(_) => "",
            Err(_) => ". It has faults: the values at fault are left out",
        };
        Ok(format!("# {place}{of_faults}\n{lines}"))
    }

    /// What `bondgate check` reports.
    pub(super) fn check(&self, is_live: bool) -> Result<SectionText, String> {
        // The check would wait for the same file.
        self.loaded.as_ref().map_err(Clone::clone)?;
        let mut arguments = vec![OsStr::new("check")];
        arguments.extend(is_live.then_some(OsStr::new("--live")));
        if let Some(file) = &self.file {
            arguments.extend([OsStr::new("--config"), file.as_os_str()]);
        }
        command::output(&arguments)
    }

    /// What `bondgate spool list` shows: names, ages and states, and nothing of a message itself.
    pub(super) fn spool(&self) -> Result<SectionText, String> {
        let configured = self.config().map(|config| config.spool.directory.as_deref());
        let directory = match configured {
            Some(directory) => directory.or(self.state_directory.as_deref()).map(Path::to_owned),
            // It is the usual one, if anything.
            None => Some(locations::spool()).filter(|directory| directory.exists()),
        };
        let Some(directory) = directory else {
            return match configured {
                Some(_) => Ok("spool.directory is not set: the daemon holds messages in memory, and the status counts them".to_owned().into()),
                None => Err("spool.directory is not known, since the configuration cannot be read".to_owned()),
            };
        };
        let arguments = ["spool", "list", "--directory"].map(OsStr::new);
        let SectionText { text: list, gap } =
            command::output(&[&arguments[..], &[directory.as_os_str()]].concat())?;
        let count = list.lines().filter(|line| line.contains("  pulled ")).count();
        let text = format!(
            "{}, messages: {count}\n\n{}",
            directory.display(),
            without_middle(&list)
        );
        Ok(SectionText { text, gap })
    }

    /// How this configuration may differ from that of the daemon that responds.
    pub(super) fn differences(&self, daemon: &Daemon) -> Vec<String> {
        let own = self
            .file
            .as_deref()
            .and_then(|file| std::path::absolute(file).ok());
        let shown = || {
            own.as_deref()
                .map_or("this command's environment".into(), Path::to_string_lossy)
        };
        match daemon.configuration_file() {
            Some(file) if !own.as_deref().is_some_and(|own| is_same(own, file)) => vec![format!(
                "configuration, check and spool are those of {}; the daemon that responds has {}: name that file with \
                 --config",
                shown(),
                file.display()
            )],
            None if daemon.is_configured_by_environment() => vec![format!(
                "configuration, check and spool are those of {}; the daemon that responds is configured by its \
                 environment: run this command in the same environment, as in its container",
                shown()
            )],
            Some(file) => daemon
                .loaded()
                .and_then(|loaded| changed_since(file, loaded))
                .into_iter()
                .collect(),
            None => Vec::new(),
        }
    }
}

/// Says that a file was changed after the daemon had loaded it. The document of the daemon's status has whole seconds.
fn changed_since(file: &Path, loaded: SystemTime) -> Option<String> {
    let path = file.to_owned();
    let modified = move || path.metadata().and_then(|metadata| metadata.modified());
    let changed = limited("reading its time", modified).ok()?.ok()?;
    let is_later = changed
        .duration_since(loaded)
        .is_ok_and(|after| after >= Duration::from_secs(1));
    is_later.then(|| {
        let [changed, loaded] = [changed, loaded].map(humantime::format_rfc3339_seconds);
        format!(
            "configuration and check are those of {} as it was changed at {changed}; the daemon has loaded it at {loaded} and \
             may use other values: reload it, or see its log for why it did not",
            file.display()
        )
    })
}

/// Whether two absolute paths lead to the same file.
fn is_same(own: &Path, of_daemon: &Path) -> bool {
    if own == of_daemon {
        return true;
    }
    // Another program may have named it, and Windows logs in to a share to resolve a path on it.
    let is_on_share = matches!(of_daemon.components().next(), Some(Component::Prefix(prefix))
        if !matches!(prefix.kind(), Prefix::Disk(_) | Prefix::VerbatimDisk(_)));
    if is_on_share {
        return false;
    }
    let paths = [own, of_daemon].map(Path::to_owned);
    let same = limited("resolving the paths", move || {
        let [own, of_daemon] = paths.map(|path| path.canonicalize().ok());
        own.is_some() && own == of_daemon
    });
    same.unwrap_or(false)
}

/// Whether a file is a pipe, a terminal or another stream: it may never end, and what is read of it is missing elsewhere.
fn is_stream(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// The first and the last lines.
fn without_middle(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    if lines.len() <= MOST_LINES {
        return text.to_owned();
    }
    let (first, last) = (&lines[..MOST_LINES / 2], &lines[lines.len() - MOST_LINES / 2..]);
    let left_out = lines.len() - MOST_LINES;
    format!(
        "{}\n[{left_out} lines left out]\n{}\n",
        first.join("\n"),
        last.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_shown_by_its_beginning_and_its_end() {
        let lines = |numbers: std::ops::Range<usize>| {
            let numbers = numbers.map(|number| number.to_string() + "\n");
            numbers.collect::<Vec<_>>().concat()
        };
        assert_eq!(without_middle(&lines(0..400)), lines(0..400));
        let cut = without_middle(&lines(0..1000));
        assert_eq!(
            cut,
            format!("{}[600 lines left out]\n{}", lines(0..200), lines(800..1000))
        );
    }
}
