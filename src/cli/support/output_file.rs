//! The file of a bundle. It is created once its text is complete, so that an interrupted command leaves no empty bundle.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::platform::files;

/// A file that does not exist yet.
pub(super) struct OutputFile(PathBuf);

impl OutputFile {
    /// Finds out whether the file can be created, before anything is collected for it: that takes a while with `--live`.
    pub(super) fn new(path: PathBuf) -> anyhow::Result<Self> {
        if path.symlink_metadata().is_ok() {
            return Err(not_created(&path, &io::ErrorKind::AlreadyExists.into()));
        }
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        files::check_writable_directory(directory.unwrap_or(Path::new(".")))
            .map_err(|error| not_created(&path, &error))?;
        Ok(Self(path))
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates it with the whole text, for its owner alone. Overwrites nothing.
    pub(super) fn write(&self, text: &str) -> anyhow::Result<()> {
        let mut file = files::create_private(&self.0).map_err(|error| not_created(&self.0, &error))?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        // An open file cannot be removed on Windows.
        drop(file);
        written
            .inspect_err(|_| {
                let _ = files::remove(&self.0);
            })
            .with_context(|| {
                format!(
                    "cannot write {}; write it elsewhere with --output FILE, or to standard output with --output -",
                    self.0.display()
                )
            })
    }
}

fn not_created(path: &Path, error: &io::Error) -> anyhow::Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{path} exists and is not overwritten; name another file with --output FILE")
        }
        _ => anyhow::anyhow!(
            "cannot create {path}: {error}; name another place with --output FILE, or write to standard output with \
             --output -"
        ),
    }
}
