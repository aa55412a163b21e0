//! Restricts the process permanently to the files, ports and system calls that a running daemon needs, so that an attacker
//! who exploits a bug gains little.
//!
//! Landlock and seccomp bind the calling thread and the threads that it starts later: enter the sandbox when every
//! socket is bound and before another thread runs.

#[cfg(target_os = "linux")]
mod landlock;
// Other systems use the needs alone.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
mod rules;
#[cfg(target_os = "linux")]
mod seccomp;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use self::rules::Rules;

pub use self::rules::Needs;

/// What the process may still do; by default everything.
#[derive(Clone, Debug, Default)]
pub struct Sandbox {
    /// Landlock's rules, if they are in force.
    rules: Option<Rules>,
    /// What does not fit the configured files.
    pub misfits: Vec<String>,
    /// What the kernel lacks.
    pub missing: Vec<String>,
    /// What is restricted.
    pub restrictions: Vec<String>,
}

impl Sandbox {
    /// Whether this system has such restrictions: only Linux has.
    pub const IS_SUPPORTED: bool = cfg!(target_os = "linux");

    /// Restricts this thread and all that it will start, as far as the kernel can.
    #[must_use]
    #[cfg(target_os = "linux")]
    pub fn enter(needs: &Needs) -> Self {
        let mut rules = Rules::new(needs);
        let mut sandbox = Self {
            misfits: std::mem::take(&mut rules.warnings),
            ..Self::default()
        };
        let files = landlock::restrict(&rules);
        tracing::debug!(?rules, "what the sandbox allows");
        sandbox.rules = files.is_ok().then_some(rules);
        for result in [files, seccomp::restrict()] {
            match result {
                Ok(restriction) => sandbox.restrictions.push(restriction),
                Err(reason) => sandbox.missing.push(reason),
            }
        }
        sandbox
    }

    /// Does nothing.
    #[must_use]
    #[cfg(not(target_os = "linux"))]
    pub fn enter(_needs: &Needs) -> Self {
        Self::default()
    }

    /// What a changed configuration needs and the sandbox denies, a sentence each: it takes a restart.
    #[must_use]
    pub fn denied(&self, needs: &Needs) -> Vec<String> {
        let Some(rules) = &self.rules else {
            return Vec::new();
        };
        let denied = |key: &String, what: String| {
            format!("{key}: {what} is outside the sandbox, which is fixed at the start; needs a restart")
        };
        let files = needs.files.iter().filter(|(_, file)| !rules.allow_file(file));
        let files = files.map(|(key, file)| denied(key, file.display().to_string()));
        let ports = needs.ports.iter().filter_map(|(key, port)| Some((key, (*port)?)));
        let ports = ports.filter(|(_, port)| !rules.allow_port(*port));
        let ports = ports.map(|(key, port)| denied(key, format!("port {port}")));
        let mut denied: Vec<_> = files.chain(ports).collect();
        denied.dedup();
        denied
    }
}
