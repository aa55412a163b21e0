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
    /// Reads the files that are read once for all, and the configuration file where it is `watched`. Those
    /// of credentials are read for each token, and are left out.
    pub(super) fn read(config: &Config, watched: Option<&Path>) -> Self {
        let named = config.files().into_iter().filter(|file| !file.is_credential);
        let paths = named.map(|file| file.path).chain(watched.map(Path::to_owned));
        Self(paths.map(|path| (path.clone(), digest(&path))).collect())
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
