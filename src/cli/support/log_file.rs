//! The end of the log: from the memory of the daemon, and from the log file.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::configuration::Configuration;
use super::daemon::Daemon;
use super::section_text::SectionText;
use super::time_limit::limited;
use crate::platform::shell::SHOW_LOG;
use crate::platform::{locations, service};
use crate::telemetry::{RecentLog, log_line_time};

/// As much as the daemon has in memory.
const MOST: u64 = RecentLog::CAPACITY as u64;

/// Where the last lines come from, and these lines: those in the daemon's memory, after older ones of the log file, which
/// has those from before a restart.
pub(super) fn last_lines(
    daemon: &Daemon,
    configuration: &Configuration,
) -> (String, Result<SectionText, String>) {
    let last = format!("the last {} KiB", MOST >> 10);
    let from_memory = format!("{last}, from the memory of the daemon");
    let of_file = configured(configuration).map(|file| {
        let place = file.display().to_string();
        let lines = limited("reading it", move || {
            end_of(&file).map_err(|error| error.to_string())
        });
        (place, lines.flatten())
    });
    match (daemon.recent_lines(), of_file) {
        (Ok(recent), Some((place, Ok(lines)))) => {
            let text = older_than(&recent.text, &lines);
            if text.is_empty() {
                return (from_memory, Ok(recent));
            }
            let text = text + &recent.text;
            (
                format!("{from_memory}; before that, older lines of {place}"),
                Ok(SectionText { text, ..recent }),
            )
        }
        (Ok(recent), _) => (from_memory, Ok(recent)),
        (Err(_), Some((place, Ok(lines)))) => (format!("{last} of {place}"), Ok(lines.into())),
        (Err(reason), Some((place, Err(error)))) => (
            String::new(),
            Err(format!("{reason}; {place} cannot be read: {error}")),
        ),
        (Err(reason), None) => {
            let reason = format!("{reason}; no log file is configured: add what {SHOW_LOG} shows");
            (String::new(), Err(reason))
        }
    }
}

/// Those of the lines that are older than the first line of `newer`.
fn older_than(newer: &str, lines: &str) -> String {
    let time = |line: &str| log_line_time(line.as_bytes());
    let start = newer.lines().find_map(time);
    let lines = lines.split_inclusive('\n');
    lines
        .filter(|line| start.is_none() || time(line) < start)
        .collect()
}

/// The log file of the configuration, or that of a service of Windows.
fn configured(configuration: &Configuration) -> Option<PathBuf> {
    let configured = configuration.config().and_then(|config| config.log.file.clone());
    let of_service = || service::IS_SUPPORTED.then(|| locations::log().join("bondgate.log"));
    configured.or_else(of_service)
}

/// The lines of a log at the end of a file. Lines of another kind are left out: the path may be wrong.
fn end_of(path: &Path) -> io::Result<String> {
    // A pipe would block.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(MOST);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let lines = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| log_line_time(line).is_some());
    Ok(String::from_utf8_lossy(&lines.collect::<Vec<_>>().concat()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_a_log_are_taken_from_the_end_of_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |number: usize| format!("2026-11-29T04:00:00.000000Z  INFO line number={number}\n");
        let lines = (0..10_000).map(line).collect::<String>();
        let json =
            "{\"timestamp\":\"2026-11-29T04:00:01.000000Z\",\"level\":\"INFO\",\"message\":\"json\"}\n";
        std::fs::write(
            file.path(),
            format!("{lines}root:x:0:0\n\npassword = \"p\"\n{json}"),
        )
        .unwrap();
        let end = end_of(file.path()).unwrap();
        assert!(end.ends_with(&format!("{}{json}", line(9999))), "{end}");
        assert!(!end.contains("root") && !end.contains("password"), "{end}");
        assert!(end.len() as u64 <= MOST && end.lines().count() > 4000);
        assert!(end_of(Path::new("/")).is_err());
    }
}
