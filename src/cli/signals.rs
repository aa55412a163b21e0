//! The signals that the daemon takes, as the README's table has them.
//!
//! A signal that reloads, reopens or does nothing must not end a daemon that is just starting: [`EarlySignals`] is
//! installed before anything else is done. One that stops ends a starting daemon at once, by its default action: there
//! is nothing to finish yet.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::daemon;
use crate::telemetry::LogFile;

/// The signals that end no daemon, from its start on.
pub(super) struct EarlySignals {
    reload: Signal,
    reopen: Signal,
}

/// All signals that a running daemon takes.
pub(super) struct UnixSignals {
    stop: Vec<Signal>,
    reload: Signal,
    reopen: Signal,
    log: LogFile,
}

/// Those that stop: what people and supervisors send, and what says that a time limit or the power is running out.
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

/// Those that do nothing but would end a program that does not ask for them. SIGXFSZ: a write beyond a file-size limit
/// fails then, with EFBIG. (SIGPIPE is ignored by Rust's runtime.)
const NOTHING: &[i32] = &[
    libc::SIGUSR2,
    libc::SIGXFSZ,
    libc::SIGIO,
    #[cfg(target_os = "linux")]
    libc::SIGSTKFLT,
];

impl EarlySignals {
    /// Begins to take signals; within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        for number in NOTHING.iter().copied().chain(real_time()) {
            // The handler stays when nobody listens. One that this system lets no program take is left out: under
            // valgrind that is the last one.
            drop(signal(SignalKind::from_raw(number)));
        }
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// Takes the signals that stop, too; within the same runtime.
    pub(super) fn and_stop(self, log: LogFile) -> io::Result<UnixSignals> {
        let stop = STOP.iter().map(|number| signal(SignalKind::from_raw(*number)));
        Ok(UnixSignals {
            stop: stop.collect::<io::Result<_>>()?,
            reload: self.reload,
            reopen: self.reopen,
            log,
        })
    }
}

#[cfg(target_os = "linux")]
fn real_time() -> impl Iterator<Item = i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

#[cfg(not(target_os = "linux"))]
fn real_time() -> impl Iterator<Item = i32> {
    std::iter::empty()
}

impl daemon::Signals for UnixSignals {
    async fn next(&mut self) -> daemon::Signal {
        let Self {
            stop,
            reload,
            reopen,
            log,
        } = self;
        let mut stopped = poll_fn(|context| {
            let is_stop = stop.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if is_stop { Poll::Ready(()) } else { Poll::Pending }
        });
        loop {
            tokio::select! {
                () = &mut stopped => return daemon::Signal::Stop,
                _ = reload.recv() => {
                    log.reopen();
                    return daemon::Signal::Reload;
                }
                _ = reopen.recv() => log.reopen(),
            }
        }
    }
}
