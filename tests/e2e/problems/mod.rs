//! Problems of the catalogue, injected one by one: each place names the code, and a printed fix mends it.

use std::path::Path;
use std::process::Command;

use bondgate::problems::Severity;

use crate::harness::{Ended, Setup, bondgate, finished};

mod api_state;
mod certificates;
mod clock;
mod credentials;
mod faults;
mod live;
mod other_hosts;
mod paths;
mod proxies;
mod running;
mod service;
mod spool;
mod squid;
mod text_files;
mod unreachable;

/// What is not looked at in a place, and why.
const NOT_A_CHECK: &str = "- the check looks at no message";
const NOT_A_REQUEST: &str = "- no request fails";

/// Adds an injection to the table of `.ci/injections`: the call that fails, the code that it is to have, and what the check,
/// the log, the status and the response have, in this order.
pub(crate) fn record(injection: &str, call: &str, code: &str, places: [&str; 4]) {
    use std::io::Write as _;
    let Some(file) = std::env::var_os("INJECTIONS") else {
        return;
    };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
    let places = places.join("\t");
    file.unwrap()
        .write_all(format!("{call}\t{injection}\t{code}\t{places}\n").as_bytes())
        .unwrap();
}

/// The result of `check` for a configuration.
async fn check(setup: &Setup) -> Ended {
    check_with(setup, &[]).await
}

/// The same with further variables.
async fn check_with(setup: &Setup, environment: &[(&str, &str)]) -> Ended {
    let own = setup.environment.iter();
    let own = own.map(|(name, value)| (name.as_str(), value.as_str()));
    let all: Vec<_> = own.chain(environment.iter().copied()).collect();
    check_of(&setup.config_file(), &all).await
}

/// The result of `check` for a file.
async fn check_of(file: &Path, environment: &[(&str, &str)]) -> Ended {
    let mut command = bondgate();
    command.args(["check", "--config"]).arg(file);
    command.envs(environment.iter().copied());
    finished(command).await
}

/// The lines of a check's output that carry a code.
fn lines<'a>(ended: &'a Ended, code: &str) -> Vec<&'a str> {
    let end = format!(" [{code}]");
    let lines: Vec<_> = ended.lines().filter(|line| line.ends_with(&end)).collect();
    for line in &lines {
        record_static(line, code);
    }
    lines
}

/// Adds what a check finds without a call to the table, by the name of the test and the key in the line.
fn record_static(line: &str, code: &str) {
    let entry = bondgate::problems::find(code).unwrap();
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default().rsplit("::").next().unwrap();
    let is_key = |part: &&str| part.contains('.') && !part.contains(['/', ' ']);
    let key = line.split(": ").find(is_key).unwrap_or("-");
    let injection = format!("{key}: {}", test.replace('_', " "));
    let rest = match entry.severity {
        Severity::Error => "- a start ends with the same line",
        Severity::Warning => "- nothing fails",
    };
    record(
        &injection,
        &entry.area.to_string(),
        code,
        [code, rest, rest, rest],
    );
}

/// Runs the command that a line prints after "run: ", and returns the file that the key is to be set to, if any.
fn apply(line: &str) -> Option<String> {
    let (_, fix) = line.split_once("run: ").unwrap_or_else(|| panic!("{line}"));
    let (fix, _) = fix.rsplit_once(" [").unwrap();
    let (command, file) = match fix.split_once(", and set the key to ") {
        Some((command, file)) => (command, Some(file.to_owned())),
        None => (fix, None),
    };
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    file
}

/// Runs a program of the machine in a directory.
fn run(directory: &Path, command: &str) {
    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(directory)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
}
