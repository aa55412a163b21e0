//! From a file and the environment to a [`Config`], or to every fault in them.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::root::Config;
use super::source::{self, Fault, KeyPath, Origin, Report};
use super::{text, validation};
use crate::platform::locations;
use crate::problems::{configuration, files};

/// A longer configuration file is refused.
const LONGEST_FILE: u64 = 16 << 20;

/// The file to read: the given one, `$BONDGATE_CONFIG`, or one in a default place.
#[must_use]
pub fn find_file(given: Option<PathBuf>) -> Option<PathBuf> {
    given
        .or_else(|| std::env::var_os("BONDGATE_CONFIG").map(PathBuf::from))
        .or_else(|| {
            let of_service = locations::configuration().join("bondgate.toml");
            let defaults = [PathBuf::from("./bondgate.toml"), of_service];
            defaults.into_iter().find(|path| path.exists())
        })
}

impl Config {
    /// Reads a file, if there is one, and the environment over it. Relative paths in the file are relative to its directory.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, OsString)>,
    ) -> Result<Self, ConfigError> {
        let Some(file) = file else {
            return Self::read("", "", None, environment);
        };
        let name = file.display().to_string();
        // Not through `text::read`: a file that is read once may be a pipe.
        let fault = |problem| ConfigError::new(vec![Fault::at(Origin::Default, problem)]);
        // A pipe is read to its end, as in `--config <(…)`.
        let mut bytes = Vec::new();
        let read = File::open(file).and_then(|opened| opened.take(LONGEST_FILE).read_to_end(&mut bytes));
        read.map_err(|error| fault(text::cannot_read(file, &error)))?;
        if bytes.len() as u64 == LONGEST_FILE {
            return Err(fault(files::too_large(file.display(), LONGEST_FILE >> 20)));
        }
        let text = text::decode(&bytes, file).map_err(fault)?;
        let directory = std::path::absolute(file).ok();
        let directory = directory.as_deref().and_then(Path::parent);
        let name = name.strip_prefix("./").unwrap_or(&name);
        Self::read(text, name, directory, environment)
    }

    /// Reads the text of the configuration file `file`, and the environment over it.
    pub fn parse(
        text: &str,
        file: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let environment = environment.into_iter();
        Self::read(
            text,
            file,
            None,
            environment.map(|(name, value)| (name, value.into())),
        )
    }

    fn read(
        text: &str,
        file: &str,
        directory: Option<&Path>,
        environment: impl IntoIterator<Item = (String, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut report = Report::new(text, file);
        let is_empty = report
            .document
            .root()
            .as_table()
            .is_some_and(toml::Table::is_empty);
        let variables = source::variables(environment, &mut report);
        source::overlay(&mut report, &variables);
        source::rename_keys(&mut report, source::RENAMED);
        if is_empty && report.document.get(&"upstream".into()).is_none() {
            let problem = match file {
                "" => configuration::no_configuration(),
                file => configuration::empty(file),
            };
            report.fault(&KeyPath::default(), problem);
            return Err(ConfigError::new(report.faults));
        }
        let Some(mut config) = source::decode(&mut report) else {
            return Err(ConfigError::new(report.faults));
        };
        config.complete();
        config.anchor(|key| directory.filter(|_| matches!(report.document.origin(key), Origin::File { .. })));
        validation::validate(&config, source::proxy_variable(&variables), &mut report);
        config.settings = report.settings();
        config.warnings = report.warnings;
        match report.faults {
            faults if faults.is_empty() => Ok(config),
            faults if report.is_broken => Err(ConfigError::new(faults)),
            faults => Err(ConfigError::corrected(faults, config, report.corrected)),
        }
    }

    /// Sets what depends on several keys.
    fn complete(&mut self) {
        for upstream in &mut self.upstreams {
            upstream.complete();
        }
        if let [only] = &self.upstreams[..] {
            let unset = self
                .listeners
                .iter_mut()
                .filter(|listener| listener.upstream.is_empty());
            unset.for_each(|listener| listener.upstream.clone_from(&only.name));
        }
        self.fit(usize::MAX);
    }
}

#[cfg(test)]
mod tests;
