//! What the files that a configuration names held when they were read: tells when to read them again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::tls::Digest;

/// Files and what they held; nothing for one that could not be read. Contents are compared, since neither
/// times nor inodes tell on every mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents(BTreeMap<PathBuf, Option<Digest>>);

impl Contents {
    /// Reads the files that are read once for all. Those of credentials are read for each token, and are
    /// left out.
    pub(super) fn read(config: &Config) -> Self {
        let named = config.files().into_iter().filter(|file| !file.is_credential);
        Self(
            named
                .map(|file| (file.path.clone(), digest(&file.path)))
                .collect(),
        )
    }

    /// Reads one file.
    pub(super) fn of(file: &Path) -> Self {
        Self(BTreeMap::from([(file.to_owned(), digest(file))]))
    }

    /// One file alone, as it was read.
    pub(super) fn only(&self, file: &Path) -> Self {
        Self(
            self.0
                .get_key_value(file)
                .map(|(path, held)| (path.clone(), *held))
                .into_iter()
                .collect(),
        )
    }

    /// These and others.
    pub(super) fn with(mut self, others: Option<Self>) -> Self {
        self.0.extend(others.into_iter().flat_map(|others| others.0));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a file holds something else than at another time, or was not looked at then.
    pub(super) fn differs_at(&self, path: &Path, from: &Self) -> bool {
        self.0.get(path) != from.0.get(path)
    }

    /// The keys whose files, which stay where they were, hold something else than at another time.
    pub(super) fn changed_keys(&self, config: &Config, from: &Self) -> Vec<String> {
        let named = config.files().into_iter();
        named
            .filter(|file| from.0.contains_key(&file.path) && self.differs_at(&file.path, from))
            .map(|file| format!("{} (its file)", file.key))
            .collect()
    }
}

fn digest(path: &Path) -> Option<Digest> {
    let held = std::fs::read(path).ok()?;
    Some(Sha256::digest(held).into())
}
