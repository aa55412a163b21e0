//! The file of a bundle: it gets its name once it is complete, so that an interrupted command leaves no empty or partial
//! bundle.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::platform::files;

/// A file that does not exist yet.
pub(super) struct OutputFile {
    path: PathBuf,
    /// Its name while it is written.
    partial: PathBuf,
}

impl OutputFile {
    /// Finds out whether the file can be created, before anything is collected for it: that takes a while with `--live`.
    pub(super) fn new(path: PathBuf) -> anyhow::Result<Self> {
        let mut partial = path.clone().into_os_string();
        partial.push(format!(".{}.partial", std::process::id()));
        let file = Self {
            path,
            partial: partial.into(),
        };
        file.check_absent()?;
        files::create_private(&file.partial)
            .and_then(|created| {
                drop(created);
                files::remove(&file.partial)
            })
            .map_err(|error| not_created(&file.path, &error))?;
        Ok(file)
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the whole text, for the owner of the file alone.
    pub(super) fn write(&self, text: &str) -> anyhow::Result<()> {
        self.check_absent()?;
        let written = files::create_private(&self.partial).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written
            .and_then(|()| files::rename(&self.partial, &self.path))
            .inspect_err(|_| {
                let _ = files::remove(&self.partial);
            })
            .with_context(|| {
                format!(
                    "cannot write {}; write it elsewhere with --output FILE, or to standard output with --output -",
                    self.path.display()
                )
            })
    }

    fn check_absent(&self) -> anyhow::Result<()> {
        match self.path.symlink_metadata() {
            Ok(_) => Err(not_created(&self.path, &io::ErrorKind::AlreadyExists.into())),
            Err(_) => Ok(()),
        }
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
