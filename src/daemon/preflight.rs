//! What a start needs of the machine, checked without starting: by the same code as the start.

use std::fs::File;
use std::io;
use std::path::Path;

use super::sandbox_needs::all_needs;
use crate::config::{Config, ListenAddress};
use crate::platform::hardening;
use crate::platform::sandbox::Sandbox;
use crate::problems::{Problem, machine};
use crate::server::{BindError, Listener};

/// Files that are open before any connection.
const LEAST_DESCRIPTORS: usize = 64;

/// Raises the limit of file descriptors, and fits the configuration to it. Returns the limit.
pub fn fit_descriptors(config: &mut Config) -> Result<usize, Problem> {
    let limit = hardening::raise_descriptor_limit();
    config.fit(limit);
    if limit < LEAST_DESCRIPTORS {
        return Err(machine::descriptors_too_few(limit));
    }
    Ok(limit)
}

/// The addresses that cannot be listened on, each with what sets it and the reason.
#[must_use]
pub fn check_listeners(config: &Config) -> Vec<(String, &ListenAddress, BindError)> {
    let setting = |at: usize| match config.listeners.len() {
        1 => "address in [[listener]], or BONDGATE_LISTEN,".to_owned(),
        _ => format!("listener[{at}].address"),
    };
    let listeners = config.listeners.iter().enumerate();
    let listeners = listeners.map(|(at, listener)| (setting(at), &listener.address));
    let admin = "address in [admin], or BONDGATE_ADMIN,".to_owned();
    let checked = [(admin, &config.admin.address)].into_iter().chain(listeners);
    checked
        .filter_map(|(setting, address)| Some((setting, address, Listener::check(address).err()?)))
        .collect()
}

/// Enters the sandbox in a thread of its own, and reads there what a daemon reads. Returns what is restricted, and the
/// problems.
#[must_use]
pub fn check_sandbox(config: &Config, file: Option<&Path>) -> (String, Vec<Problem>) {
    let needs = all_needs(config, file);
    // What cannot be read without a sandbox is another problem, and opening a pipe would block.
    let readable: Vec<_> = needs
        .files
        .iter()
        .filter(|(_, file)| file.is_file() && File::open(file).is_ok())
        .collect();
    let checked = std::thread::scope(|scope| {
        let checks = || {
            let sandbox = Sandbox::enter(&needs);
            let is_denied = |file: &Path| {
                File::open(file).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
            };
            let denied = readable.iter().filter(|(_, file)| is_denied(file));
            let denied = denied.map(|(key, file)| machine::sandbox_denies(key, file.display()));
            let missing = sandbox.missing.iter().map(machine::sandbox_incomplete);
            let misfits = sandbox.misfits.iter().map(machine::sandbox_misfit);
            let problems = denied.chain(missing).chain(misfits).collect();
            (sandbox.restrictions.join(", "), problems)
        };
        let thread = std::thread::Builder::new().name("sandbox check".to_owned());
        thread
            .spawn_scoped(scope, checks)
            .map(|thread| thread.join().ok())
    });
    checked.ok().flatten().unwrap_or_default()
}
