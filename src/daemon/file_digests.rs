//! Digests of the files that a configuration names, to notice when one changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::config::Config;
use crate::tls::Digest;

/// What the files contained; `None` for a file that could not be read. Contents are compared because neither
/// modification times nor inode numbers are reliable on every mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileDigests {
    /// The configuration file, where it is watched.
    pub(super) config_file: Option<Digest>,
    named: BTreeMap<PathBuf, Option<Digest>>,
}

impl FileDigests {
    /// Reads the files; `config_file` only if it is watched. Credentials are left out: they are read again for each token
    /// request.
    pub(super) fn read(config: &Config, config_file: Option<&Path>) -> Self {
        let named = config.files().into_iter().filter(|file| !file.is_credential());
        Self {
            config_file: config_file.filter(|_| config.server.watch).and_then(digest),
            named: named
                .map(|file| (file.path.clone(), digest(&file.path)))
                .collect(),
        }
    }

    /// The keys that name the same file as before, with other contents.
    pub(super) fn changed_keys(&self, config: &Config, before: &Self) -> Vec<String> {
        let is_changed = |path: &PathBuf| {
            let held = before.named.get(path);
            held.is_some() && held != self.named.get(path)
        };
        let changed = config.files().into_iter().filter(|file| is_changed(&file.path));
        changed.map(|file| format!("{} (its file)", file.key)).collect()
    }
}

fn digest(path: &Path) -> Option<Digest> {
    let contents = std::fs::read(path).ok()?;
    Some(Sha256::digest(contents).into())
}
