//! Gives up, for good, what a running daemon has no use for: files, ports and system calls. Whoever
//! takes the daemon over by a bug finds little to go on with.
//!
//! Landlock and seccomp bind the thread that asks and the threads that it starts later: this is entered
//! when every socket is bound, and before any other thread runs. Files are granted by directory, since
//! the ones that matter are replaced while the daemon runs: by rename, or by Kubernetes' `..data` link.

#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod files;
mod grants;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use std::path::Path;

use self::grants::Grants;
use crate::config::Config;

/// What the process still may do. The default is everything.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// What Landlock grants, where it is in force.
    grants: Option<Grants>,
}

impl Sandbox {
    /// Shuts this thread, and all that it will start, in; says what is in force. `file` is where the
    /// configuration was read from.
    ///
    /// Where the kernel lacks something the daemon runs without, and says so.
    #[must_use]
    pub fn enter(config: &Config, file: Option<&Path>) -> Self {
        if !config.server.sandbox {
            tracing::warn!("not sandboxed: server.sandbox is false");
            return Self::default();
        }
        #[cfg(target_os = "linux")]
        return enter(Grants::of(config, file));
        #[cfg(not(target_os = "linux"))]
        {
            let _ = file;
            tracing::info!("not sandboxed: only Linux has what it takes");
            Self::default()
        }
    }

    /// Whether a file may be read, and what replaces it too; a file that is not there yet is judged by
    /// its place.
    #[must_use]
    pub fn covers(&self, file: &Path) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.cover(file))
    }

    /// Whether connections to a TCP port may be opened.
    #[must_use]
    pub fn reaches(&self, port: u16) -> bool {
        self.grants.as_ref().is_none_or(|grants| grants.reach(port))
    }
}

#[cfg(target_os = "linux")]
fn enter(grants: Grants) -> Sandbox {
    for note in &grants.notes {
        tracing::warn!("{note}");
    }
    let mut in_force = Vec::new();
    let mut lacking = Vec::new();
    let mut sandbox = Sandbox::default();
    match files::restrict(&grants) {
        Ok(kinds) => {
            tracing::debug!(?grants, "what the sandbox leaves open");
            in_force.push(format!("Landlock ({})", kinds.join(", ")));
            sandbox.grants = Some(grants);
        }
        Err(why) => lacking.push(why),
    }
    match calls::restrict() {
        Ok(()) => in_force.push("seccomp".to_owned()),
        Err(why) => lacking.push(why),
    }
    if !in_force.is_empty() {
        tracing::info!("sandboxed: {}", in_force.join(", "));
    }
    for why in lacking {
        tracing::warn!("{why}; the daemon runs without");
    }
    sandbox
}
