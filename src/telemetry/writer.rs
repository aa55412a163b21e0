//! Takes log lines from whoever has some, and writes them in a thread of its own: nobody who serves a request
//! waits for the log's reader.
//!
//! The thread sleeps, without a timer, until there is a line. It then gathers others for a moment, and writes all
//! of them at once. Before it is started, and after it has ended, lines are written by who has them.

#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use rustix::event::{PollFd, PollFlags, poll};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// What a buffer keeps of its memory when it is empty: some 250 lines.
const KEPT: usize = 64 * 1024;

/// Where lines go in the end.
pub(super) enum Sink {
    Stderr,
    File { path: PathBuf, file: ArcSwap<File> },
}

/// How the thread writes.
pub(super) struct Terms {
    /// How long lines that are in no hurry wait for others.
    pub(super) gather: Duration,
    /// Bytes that wait, the ones that are being written among them. A line that would be beyond is dropped.
    pub(super) bound: usize,
    /// How long the process waits at its end for a reader to take what is left.
    pub(super) patience: Duration,
    /// Logs how many lines were dropped.
    pub(super) tell_dropped: fn(&Writer, u64),
}

impl Terms {
    /// A reader of 20 ms ago is not behind, at 50 writes a second whatever the load. A MiB holds what 4,000 requests
    /// log: a reader that stands still for a moment loses nothing, and one that never reads costs no more than this.
    pub(super) const USUAL: Self = Self {
        gather: Duration::from_millis(20),
        bound: 1024 * 1024,
        patience: Duration::from_secs(1),
        tell_dropped: |_, lines| tracing::warn!("{lines} log lines were dropped: the log's reader is slow"),
    };
}

/// What all threads append to.
pub(super) struct Writer {
    sink: Sink,
    terms: Terms,
    state: Mutex<State>,
    /// Wakes the thread.
    wake: Condvar,
    /// Wakes who waits for the thread's end.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    mode: Mode,
    thread: Doing,
    id: Option<ThreadId>,
    waiting: Vec<u8>,
    /// Bytes that the thread is writing.
    in_hand: usize,
    is_urgent: bool,
    /// The log file is to be opened again.
    reopens: bool,
    is_ending: bool,
    /// Lines dropped that the log does not tell of yet.
    dropped: u64,
    dropped_ever: Counter,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mode {
    /// Whoever has a line writes it.
    #[default]
    Direct,
    Threaded,
    /// The process ends, and the thread is stuck in a write.
    Closed,
}

/// What the thread does; it is woken only where it would not look by itself.
#[derive(Clone, Copy, Default, PartialEq)]
enum Doing {
    Sleeping,
    /// It is awake, or will be in a moment, and waits for more.
    Gathering,
    /// It looks again when it has written.
    #[default]
    Writing,
}

impl Writer {
    pub(super) fn new(sink: Sink, terms: Terms) -> Arc<Self> {
        Arc::new(Self {
            sink,
            terms,
            state: Mutex::default(),
            wake: Condvar::new(),
            ended: Condvar::new(),
        })
    }

    /// Takes whole lines; an urgent one is written at once, behind those that wait.
    pub(super) fn append(&self, lines: &[u8], is_urgent: bool) {
        let mut state = self.lock();
        match state.mode {
            Mode::Direct => return self.sink.write(lines, false),
            Mode::Closed => return,
            Mode::Threaded => {}
        }
        let (waiting, bound) = (state.waiting.len() + lines.len(), self.terms.bound);
        // The thread's own line tells of the others that were dropped.
        if waiting + state.in_hand > bound && state.id != Some(thread::current().id()) {
            state.dropped += 1;
            state.dropped_ever.inc();
            return;
        }
        state.waiting.extend_from_slice(lines);
        let is_urgent = is_urgent || waiting > bound / 2;
        let wakes = match state.thread {
            Doing::Sleeping => true,
            Doing::Gathering => is_urgent && !state.is_urgent,
            Doing::Writing => false,
        };
        state.is_urgent |= is_urgent;
        if wakes {
            // The next line need not wake it again.
            state.thread = Doing::Gathering;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Opens the log file again, which log rotation may have moved: in the thread, since a file system may hang.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        match state.mode {
            Mode::Closed => {}
            Mode::Direct => {
                drop(state);
                self.sink.reopen();
            }
            Mode::Threaded => {
                state.reopens = true;
                state.is_urgent = true;
                drop(state);
                self.wake.notify_one();
            }
        }
    }

    /// Starts the thread; lines that are dropped from then on are counted.
    pub(super) fn start(self: &Arc<Self>, dropped: Counter) -> io::Result<LogThread> {
        {
            let mut state = self.lock();
            state.mode = Mode::Threaded;
            state.dropped_ever = dropped;
        }
        let writer = self.clone();
        let thread = thread::Builder::new().name("log".to_owned());
        match thread.spawn(move || writer.run()) {
            Ok(thread) => Ok(LogThread {
                writer: self.clone(),
                thread: Some(thread),
            }),
            Err(error) => {
                let mut state = self.lock();
                state.mode = Mode::Direct;
                self.sink.write(&std::mem::take(&mut state.waiting), false);
                Err(error)
            }
        }
    }

    fn run(&self) {
        let mut batch = Vec::new();
        let mut state = self.lock();
        state.id = Some(thread::current().id());
        while let Some(due) = self.due(state) {
            state = due;
            state.thread = Doing::Writing;
            state.is_urgent = false;
            std::mem::swap(&mut state.waiting, &mut batch);
            state.in_hand = batch.len();
            let dropped = std::mem::take(&mut state.dropped);
            let reopens = std::mem::take(&mut state.reopens);
            drop(state);
            if reopens {
                self.sink.reopen();
            }
            if dropped > 0 {
                // These came after the batch, and before what follows the line that is now written of them.
                (self.terms.tell_dropped)(self, dropped);
            }
            self.sink.write(&batch, true);
            batch.clear();
            batch.shrink_to(KEPT);
            state = self.lock();
            state.in_hand = 0;
        }
    }

    /// Waits until there is something to write now; nothing is the end.
    fn due<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Option<MutexGuard<'a, State>> {
        while !state.has_something() && !state.is_ending {
            state.thread = Doing::Sleeping;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.thread = Doing::Gathering;
        let is_patient = |state: &mut State| !state.is_urgent && !state.is_ending;
        let waited = self.wake.wait_timeout_while(state, self.terms.gather, is_patient);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.has_something() && state.mode != Mode::Closed {
            return Some(state);
        }
        if state.mode == Mode::Threaded {
            state.mode = Mode::Direct;
        }
        self.ended.notify_all();
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_something(&self) -> bool {
        !self.waiting.is_empty() || self.dropped > 0 || self.reopens
    }
}

impl Sink {
    /// A file that is appended to, and made where it is not there.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::File {
            path: path.to_owned(),
            file: ArcSwap::from_pointee(open(path)?),
        })
    }

    /// Opens a log file again by its path, and says so where it is another file now. Where that fails, the file that
    /// is open is written on.
    fn reopen(&self) {
        let Self::File { path, file } = self else {
            return;
        };
        // A pipe or a device has no successor.
        let before = match file.load().metadata() {
            Ok(before) if before.is_file() => before,
            _ => return,
        };
        let reopened = open(path).and_then(|file| Ok((file.metadata()?, file)));
        match reopened {
            Ok((now, _)) if (now.dev(), now.ino()) == (before.dev(), before.ino()) => {}
            Ok((_, reopened)) => {
                file.store(Arc::new(reopened));
                tracing::info!(file = %path.display(), "log file reopened");
            }
            Err(error) => tracing::error!(
                file = %path.display(),
                %error,
                "log file cannot be reopened, the previous one is written on; let bondgate's user create files in its \
                 directory and send SIGUSR1 (a directory that is new since the start needs a restart)"
            ),
        }
    }

    /// Writes all of it. What cannot be written is gone: there is nowhere to tell of it. A reader that is slow is
    /// waited for where that is wanted, even where it shares a pipe with us that does not block.
    fn write(&self, bytes: &[u8], waits: bool) {
        match self {
            // The lock keeps a panic's message out of the middle of a line.
            Self::Stderr => write_all(&mut io::stderr().lock(), io::stderr().as_fd(), bytes, waits),
            Self::File { file, .. } => {
                let file = file.load();
                write_all(&mut &**file, file.as_fd(), bytes, waits);
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write_all(to: &mut impl Write, descriptor: BorrowedFd<'_>, mut bytes: &[u8], waits: bool) {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return,
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && waits => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::OUT)], None);
            }
            Err(_) => return,
        }
    }
}

/// The thread that writes the log. When dropped, what waits is written, for as long as a reader that stands still
/// may keep the process from its end.
pub struct LogThread {
    writer: Arc<Writer>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogThread {
    fn drop(&mut self) {
        let writer = &self.writer;
        let mut state = writer.lock();
        state.is_ending = true;
        writer.wake.notify_one();
        let is_writing = |state: &mut State| state.mode == Mode::Threaded;
        let waited = writer
            .ended
            .wait_timeout_while(state, writer.terms.patience, is_writing);
        let (mut state, late) = waited.unwrap_or_else(PoisonError::into_inner);
        if late.timed_out() {
            // It is left to itself: it ends with the process, or with its write.
            state.mode = Mode::Closed;
            return;
        }
        drop(state);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Gives tracing-subscriber something to write a line to.
pub(super) struct Lines(pub(super) Arc<Writer>);

/// Takes one line.
pub(super) struct Line<'a> {
    writer: &'a Writer,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            writer: &self.0,
            is_urgent: true,
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        Line {
            writer: &self.0,
            is_urgent: *event.level() <= Level::WARN,
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.append(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
