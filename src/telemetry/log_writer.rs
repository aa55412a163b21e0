//! Writes log lines, from [`LogWriter::start`] on in a thread of its own, so that no request waits for the log's reader.
//!
//! tracing-appender has the queue and the thread (our own saved 0.4 % of a request's instructions). After each batch
//! the thread pauses: lines gather meanwhile, and a request's line seldom costs a system call to wake the thread.

#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, Thread};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::{Atomic, Counter};
use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::MakeWriter;

use super::log_sink::Sink;
use super::recent::RecentLog;

/// The longest queue, in lines: those of 4,000 requests. Further lines are dropped.
const QUEUE: usize = 4096;
/// A batch beyond this size is written before the queue is empty.
const BATCH: usize = 64 * 1024;
/// Fifty batches a second, whatever the load.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// How long a stuck reader may delay the end of the process; tracing-appender itself gives up after 1.1 s.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);

/// Where log lines go: to the sink at once, or into the queue of the log's thread; cheap to clone.
#[derive(Clone)]
pub(super) struct LogWriter(Arc<Shared>);

struct Shared {
    sink: Mutex<Sink>,
    queue: OnceLock<NonBlocking>,
    /// The log's thread, after its first batch.
    thread: OnceLock<Thread>,
    is_reopen_due: AtomicBool,
    recent: RecentLog,
}

/// How many lines were dropped.
pub type DroppedLines = Counter<u64, DroppedLineCount>;

/// The lines that are lost, for [`DroppedLines`].
#[derive(Debug, Default)]
pub struct DroppedLineCount {
    /// Of tracing-appender, for a reader that is too slow; none until the log's thread runs.
    queue: OnceLock<ErrorCounter>,
    /// Those that could not be written, as on a full disk.
    unwritten: AtomicU64,
}

/// The log's thread. When this is dropped, the queued lines are written, unless the reader is stuck.
pub struct LogThread {
    writer: LogWriter,
    guard: Option<WorkerGuard>,
}

impl LogWriter {
    pub(super) fn new(sink: Sink) -> Self {
        Self(Arc::new(Shared {
            sink: Mutex::new(sink),
            queue: OnceLock::new(),
            thread: OnceLock::new(),
            is_reopen_due: AtomicBool::new(false),
            recent: RecentLog::default(),
        }))
    }

    /// The recent log.
    pub(super) fn recent(&self) -> &RecentLog {
        &self.0.recent
    }

    /// Starts the log's thread, which pauses after each batch; `dropped` counts its dropped lines.
    pub(super) fn start(&self, dropped: &DroppedLines, pause: Duration) -> LogThread {
        let batches = Batches {
            writer: self.clone(),
            pause,
            lines: Vec::new(),
            dropped: dropped.clone(),
            reported: 0,
            reported_unwritten: 0,
        };
        let builder = NonBlockingBuilder::default().thread_name("log");
        let (queue, guard) = builder.buffered_lines_limit(QUEUE).finish(batches);
        let _ = dropped.inner().queue.set(queue.error_counter());
        let _ = self.0.queue.set(queue);
        LogThread {
            writer: self.clone(),
            guard: Some(guard),
        }
    }

    /// Opens the log file again, which log rotation may have moved. The thread does it: a file system may hang.
    pub(super) fn reopen(&self) {
        self.0.is_reopen_due.store(true, Ordering::Relaxed);
        self.append(b"", true);
    }

    /// Takes a whole line, or an empty one to wake the thread; an urgent one ends its pause.
    fn append(&self, line: &[u8], is_urgent: bool) {
        let Some(queue) = self.0.queue.get() else {
            self.write(line);
            return;
        };
        // It cannot fail: a line for which there is no room is dropped and counted.
        let _ = queue.make_writer().write_all(line);
        if is_urgent && let Some(thread) = self.0.thread.get() {
            thread.unpark();
        }
    }

    /// Writes whole lines. Returns how many of them are lost.
    fn write(&self, lines: &[u8]) -> u64 {
        // First: the sink may have a reader that is stuck.
        self.0.recent.lines.add(lines);
        let (rotated, lost) = {
            let mut sink = self.0.sink.lock();
            (sink.rotate(lines.len()), sink.write(lines))
        };
        // Results are logged without the lock, which a line that is written at once takes.
        if let Err(error) = rotated {
            error.report();
        }
        if !self.0.is_reopen_due.swap(false, Ordering::Relaxed) {
            return lost;
        }
        let reopened = self.0.sink.lock().reopen();
        match reopened {
            Ok(false) => {}
            Ok(true) => tracing::info!("log file reopened"),
            Err(error) => tracing::error!(
                %error,
                "log file cannot be reopened, writing to the previous one; let bondgate's user create files in its \
                 directory and send SIGUSR1 (a directory created since the start needs a restart)"
            ),
        }
        lost
    }
}

/// Gathers the lines of the log's thread into batches.
struct Batches {
    writer: LogWriter,
    pause: Duration,
    lines: Vec<u8>,
    dropped: DroppedLines,
    /// The dropped lines that the log mentions already.
    reported: u64,
    reported_unwritten: u64,
}

impl Batches {
    /// Writes the lines, and reports those that were lost before once writing works again.
    fn write_lines(&mut self) {
        let count = self.dropped.inner();
        let lost = self.writer.write(&self.lines);
        let unwritten = count.unwritten.fetch_add(lost, Ordering::Relaxed) + lost;
        let lines = unwritten - self.reported_unwritten;
        if lost == 0 && lines > 0 && !self.lines.is_empty() {
            self.reported_unwritten = unwritten;
            tracing::warn!(
                lines,
                "log lines lost, they could not be written; check the disk of log.file"
            );
        }
        self.lines.clear();
    }
}

impl Write for Batches {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(line);
        if self.lines.len() > BATCH {
            self.write_lines();
        }
        Ok(line.len())
    }

    /// Called when the queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        self.writer.0.thread.get_or_init(thread::current);
        let is_end = self.lines.is_empty();
        // There is room for the report now; the queue may be full again once the batch is written.
        let lines = self.dropped.inner().dropped_by_queue() - self.reported;
        if lines > 0 {
            self.reported += lines;
            tracing::warn!(lines, "log lines dropped, the log's reader is too slow");
        }
        self.write_lines();
        if !is_end {
            thread::park_timeout(self.pause);
        }
        Ok(())
    }
}

impl DroppedLineCount {
    fn dropped_by_queue(&self) -> u64 {
        self.queue
            .get()
            .map_or(0, |counter| counter.dropped_lines() as u64)
    }
}

impl Atomic<u64> for DroppedLineCount {
    fn inc(&self) -> u64 {
        self.get()
    }

    fn inc_by(&self, _by: u64) -> u64 {
        self.get()
    }

    fn get(&self) -> u64 {
        self.dropped_by_queue() + self.unwritten.load(Ordering::Relaxed)
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.writer.append(b"", true);
        // tracing-appender may print to standard output, whose reader may be stuck as well.
        let (guard, (ended, has_ended)) = (self.guard.take(), mpsc::channel::<()>());
        let _ = thread::Builder::new().spawn(move || drop((guard, ended)));
        let _ = has_ended.recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Takes one line, which may be urgent.
pub(super) struct Line<'a>(&'a LogWriter, bool);

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self, true)
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<'a> {
        Line(self, *event.level() <= Level::WARN)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.append(line, self.1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
