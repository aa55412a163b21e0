//! The signals that the daemon handles, as listed in the README.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{self, SignalKind};

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// An orderly stop; the second time at once.
    Stop,
    /// To reload the configuration and reopen the log file.
    Reload,
    /// To reopen the log file.
    ReopenLog,
}

/// The signals that the daemon handles, each with what it requests.
pub struct Signals(Vec<(Signal, unix::Signal)>);

/// Sent by people and service managers, or when a time limit or the power is running out.
const STOP: &[i32] = &[
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGXCPU,
    #[cfg(target_os = "linux")]
    libc::SIGPWR,
];

/// By default these would end the process. Without SIGXFSZ a write beyond a file-size limit fails with EFBIG. Rust's
/// runtime ignores SIGPIPE.
const IGNORED: &[i32] = &[
    libc::SIGUSR2,
    libc::SIGXFSZ,
    libc::SIGIO,
    #[cfg(target_os = "linux")]
    libc::SIGSTKFLT,
];

impl Signals {
    /// Handles the signals that must not end a daemon that is starting: those that reload, reopen or do nothing. One
    /// that stops does end it, by its default action: there is nothing to finish yet. Called first of all, within a
    /// runtime.
    pub fn install() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        #[cfg(not(target_os = "linux"))]
        let real_time = std::iter::empty();
        for number in IGNORED.iter().copied().chain(real_time) {
            // The handler stays without a listener. A signal that cannot be handled, the last one under valgrind, is
            // left alone.
            drop(unix::signal(SignalKind::from_raw(number)));
        }
        let mut signals = Self(Vec::new());
        signals.handle(Signal::Reload, &[libc::SIGHUP])?;
        signals.handle(Signal::ReopenLog, &[libc::SIGUSR1])?;
        Ok(signals)
    }

    /// Handles the signals that stop, too; within the same runtime.
    pub fn handle_stop(&mut self) -> io::Result<()> {
        self.handle(Signal::Stop, STOP)
    }

    fn handle(&mut self, request: Signal, numbers: &[i32]) -> io::Result<()> {
        for number in numbers {
            self.0
                .push((request, unix::signal(SignalKind::from_raw(*number))?));
        }
        Ok(())
    }

    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        poll_fn(|context| {
            let mut signals = self.0.iter_mut();
            let received = signals
                .find_map(|(request, signal)| signal.poll_recv(context).is_ready().then_some(*request));
            received.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// Waits for a signal that ends a program which has nothing to finish: SIGINT or SIGTERM. Both are handled from the call on;
/// within a runtime.
pub fn interrupted() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = unix::signal(SignalKind::interrupt())?;
    let mut terminate = unix::signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
