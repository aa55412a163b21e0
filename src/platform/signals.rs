//! The signals that the daemon handles, as listed in the README.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// An orderly stop.
    Stop,
    /// To reload the configuration and reopen the log file.
    Reload,
    /// To reopen the log file.
    ReopenLog,
}

/// The signals that must not end a daemon that is starting: those that reload, reopen or do nothing. Installed first
/// of all. One that stops does end it, by its default action: there is nothing to finish yet.
pub struct EarlySignals {
    reload: Signal,
    reopen: Signal,
}

/// All signals that a running daemon handles.
pub struct Signals {
    stop: Vec<Signal>,
    early: EarlySignals,
}

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

impl EarlySignals {
    /// Installs the handlers; within a runtime.
    pub fn install() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
        #[cfg(not(target_os = "linux"))]
        let real_time = std::iter::empty();
        for number in IGNORED.iter().copied().chain(real_time) {
            // The handler stays without a listener. A signal that cannot be handled, the last one under valgrind, is
            // left alone.
            drop(signal(SignalKind::from_raw(number)));
        }
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// Handles the signals that stop, too; within the same runtime.
    pub fn and_stop(self) -> io::Result<Signals> {
        let stop = STOP.iter().map(|number| signal(SignalKind::from_raw(*number)));
        Ok(Signals {
            stop: stop.collect::<io::Result<_>>()?,
            early: self,
        })
    }
}

impl Signals {
    /// Waits for the next signal. Cancel safe.
    pub async fn next(&mut self) -> Request {
        poll_fn(|context| {
            let mut has = |signal: &mut Signal| signal.poll_recv(context).is_ready();
            if self.stop.iter_mut().any(&mut has) {
                Poll::Ready(Request::Stop)
            } else if has(&mut self.early.reload) {
                Poll::Ready(Request::Reload)
            } else if has(&mut self.early.reopen) {
                Poll::Ready(Request::ReopenLog)
            } else {
                Poll::Pending
            }
        })
        .await
    }
}
