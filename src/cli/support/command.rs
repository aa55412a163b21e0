//! Runs other commands of this program for their output, each in a process with a time limit: one that hangs, as on a lost
//! network disk, does not prevent the bundle.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::section_text::SectionText;

/// The longest time that a command may take: longer than a check with --live of a few upstreams that do not respond.
const LIMIT: Duration = Duration::from_secs(120);

/// What a command printed, to standard output and then to standard error, with its exit code at the end; of a command that
/// is ended at the limit, what it had printed.
pub(super) fn output(arguments: &[&OsStr]) -> Result<SectionText, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, LIMIT)
}

fn run(mut command: Command, limit: Duration) -> Result<SectionText, String> {
    let deadline = Instant::now() + limit;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("its command cannot be run: {error}"))?;
    let streams = [child.stdout.take().map(read), child.stderr.take().map(read)];
    let (mut printed, mut is_late) = (String::new(), false);
    for stream in streams.into_iter().flatten() {
        let (bytes, has_ended) = printed_until(deadline, &stream);
        printed += &String::from_utf8_lossy(&bytes);
        is_late |= !has_ended;
    }
    if is_late {
        // Not awaited: a process that waits for a disk does not end even then.
        let _ = child.kill();
        let reason = format!("its command did not end within {} s", limit.as_secs());
        return match &*printed {
            "" => Err(reason),
            _ => Ok(SectionText {
                text: printed,
                gap: Some(reason),
            }),
        };
    }
    // Both streams have ended, and so has the command.
    let ended = child
        .wait()
        .map_err(|error| format!("its command cannot be awaited: {error}"))?;
    match ended.code() {
        Some(code) => Ok(format!("{printed}exit code {code}\n").into()),
        None => Ok(format!("{printed}{ended}\n").into()),
    }
}

/// Reads a stream in a thread of its own, part by part.
fn read(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The bytes of a stream until its end or the deadline, and whether the stream has ended.
fn printed_until(deadline: Instant, stream: &mpsc::Receiver<Vec<u8>>) -> (Vec<u8>, bool) {
    let mut printed = Vec::new();
    loop {
        match stream.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(bytes) => printed.extend(bytes),
            Err(error) => return (printed, error == RecvTimeoutError::Disconnected),
        }
    }
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
        assert_eq!(printed, "out\nerr\nexit code 3\n".to_owned().into());
    }

    #[test]
    fn what_a_stream_has_until_the_deadline_is_kept() {
        let (sender, stream) = mpsc::channel();
        for part in ["a", "b"] {
            sender.send(part.into()).unwrap();
        }
        assert_eq!(printed_until(Instant::now(), &stream), (b"ab".to_vec(), false));
        drop(sender);
        assert_eq!(printed_until(Instant::now(), &stream), (Vec::new(), true));
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let began = Instant::now();
        let ended = run(shell("exec sleep 60"), Duration::from_millis(50));
        assert_eq!(ended.unwrap_err(), "its command did not end within 0 s");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
