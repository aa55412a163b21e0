//! Which program this is: its version, and how it was built.

use std::sync::LazyLock;

/// The version, as in Cargo.toml.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from, if the build named it in `BONDGATE_COMMIT`.
pub const COMMIT: &str = match option_env!("BONDGATE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// How the compiler optimized it.
const PROFILE: &str = match option_env!("BONDGATE_PROFILE") {
    Some(profile) => profile,
    None if cfg!(debug_assertions) => "dev",
    None => "release",
};

const C_LIBRARY: &str = if cfg!(target_env = "musl") { "musl" } else { "gnu" };

/// Version, commit, target and profile in one line.
#[must_use]
pub fn description() -> &'static str {
    static LINE: LazyLock<String> = LazyLock::new(|| {
        let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
        format!("{VERSION} (commit {COMMIT}, {arch}-{os}-{C_LIBRARY}, profile {PROFILE})")
    });
    &LINE
}
