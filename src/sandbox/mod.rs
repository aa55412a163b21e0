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

    /// What a configuration needs and this does not let it have, a line each: it takes a restart.
    #[must_use]
    pub fn withholds(&self, config: &Config) -> Vec<String> {
        let Some(grants) = &self.grants else {
            return Vec::new();
        };
        let mut withheld = Vec::new();
        for file in config.files() {
            if !grants.cover(&file.path) {
                withheld.push(format!(
                    "{}: {} is out of the sandbox, which holds to the directories of the start: needs a restart",
                    file.key,
                    file.path.display()
                ));
            }
        }
        for upstream in &config.upstreams {
            let ports = grants::ports_of(upstream).into_iter().flatten();
            for port in ports.filter(|port| !grants.reach(*port)) {
                withheld.push(format!(
                    "upstream.{}: port {port} is out of the sandbox, which holds to the ports of the start: needs a \
                     restart",
                    upstream.name
                ));
            }
        }
        withheld.dedup();
        withheld
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
