//! What a daemon needs of the system.

use std::path::PathBuf;

/// The files and ports that a daemon uses, beside those that every program of the system uses.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    /// Files to read, each with the configuration key that names it.
    pub files: Vec<(String, PathBuf)>,
    /// A directory to write in.
    pub writable: Option<PathBuf>,
    /// The log file.
    pub log: Option<PathBuf>,
    /// TCP ports to connect to, each with the configuration key that names it. With a port that is not known, any
    /// port is allowed.
    pub ports: Vec<(String, Option<u16>)>,
}
