//! Runs other commands of this program for their output, each in a process with a time limit: one that hangs, as on a lost
//! network disk, does not prevent the bundle.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The longest time that a command may take: longer than a check with --live of a few upstreams that do not respond.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command printed, to standard output and then to standard error, with its exit code at the end.
pub(super) fn output(arguments: &[&OsStr]) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, LIMIT)
}

fn run(mut command: Command, limit: Duration) -> Result<String, String> {
    let deadline = Instant::now() + limit;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("its command cannot be run: {error}"))?;
    let streams = [child.stdout.take().map(read), child.stderr.take().map(read)];
    let mut printed = String::new();
    for stream in streams.into_iter().flatten() {
        let rest = deadline.saturating_duration_since(Instant::now());
        let Ok(bytes) = stream.recv_timeout(rest) else {
            // Not awaited: a process that waits for a disk does not end even then.
            let _ = child.kill();
            return Err(format!("its command did not end within {} s", limit.as_secs()));
        };
        printed += &String::from_utf8_lossy(&bytes);
    }
    // Both streams have ended, and so has the command.
    let ended = child
        .wait()
        .map_err(|error| format!("its command cannot be awaited: {error}"))?;
    match ended.code() {
        Some(code) => Ok(format!("{printed}exit code {code}\n")),
        None => Ok(format!("{printed}{ended}\n")),
    }
}

/// Reads a stream to its end in a thread of its own.
fn read(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_streams_and_the_exit_code_are_shown() {
        let printed = run(shell("echo out; echo err >&2; exit 3"), LIMIT).unwrap();
        assert_eq!(printed, "out\nerr\nexit code 3\n");
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let began = Instant::now();
        let ended = run(shell("exec sleep 60"), Duration::from_millis(50));
        assert_eq!(ended.unwrap_err(), "its command did not end within 0 s");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
