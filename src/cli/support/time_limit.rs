//! A time limit for work in this process that reads files: a disk that does not respond does not prevent the bundle.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The longest time that the files of one section may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// Does the work in a thread of its own, for at most [`LIMIT`]. `what` begins the reason why there is no result.
pub(super) fn limited<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    within(LIMIT, what, work)
}

fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (sender, receiver) = mpsc::channel();
    // Not awaited: a thread that waits for a disk does not end after the limit either.
    thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!(
            "{what} did not end within {} s, as on a disk that does not respond",
            limit.as_secs()
        ),
        RecvTimeoutError::Disconnected => format!("{what} failed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_given_up_with_a_reason() {
        let (_open, never) = mpsc::channel::<()>();
        let given_up = within(Duration::ZERO, "reading", move || never.recv().is_ok());
        assert_eq!(
            given_up.unwrap_err(),
            "reading did not end within 0 s, as on a disk that does not respond"
        );
        assert_eq!(limited("reading", || 1), Ok(1));
    }
}
