use std::fs::{File, OpenOptions};
use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use super::*;

/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(3600);

fn writer(to: impl Into<OwnedFd>) -> LogWriter {
    LogWriter::new(Sink::from(File::from(to.into())))
}

/// A writer whose every write is a datagram.
fn datagrams() -> (LogWriter, UnixDatagram) {
    let (to, from) = UnixDatagram::pair().unwrap();
    (writer(to), from)
}

fn next(from: &UnixDatagram) -> String {
    let mut buffer = vec![0; 1 << 20];
    let length = from.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn pipe() -> (LogWriter, PipeReader) {
    let (from, to) = io::pipe().unwrap();
    (writer(to), from)
}

fn start(writer: &LogWriter, pause: Duration) -> LogThread {
    writer.start(&DroppedLines::default(), pause)
}

/// Reads to the end in a thread of its own.
fn read_all(mut from: PipeReader) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut read = String::new();
        from.read_to_string(&mut read).unwrap();
        read
    })
}

/// A pipe whose reader is stuck: the log's thread waits in a write.
fn stuck() -> (LogWriter, PipeReader, LogThread, DroppedLines) {
    let (writer, from) = pipe();
    writer.append(b"first\n", false);
    let dropped = DroppedLines::default();
    let thread = writer.start(&dropped, Duration::ZERO);
    let mut line = vec![b'x'; BATCH];
    line[BATCH - 1] = b'\n';
    writer.append(&line, true);
    while writer.0.thread.get().is_none() {
        thread::yield_now();
    }
    (writer, from, thread, dropped)
}

#[test]
fn lines_that_cannot_be_written_are_counted_and_later_ones_are_written() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let writer = LogWriter::new(Sink::from(full));
    let dropped = DroppedLines::default();
    let thread = writer.start(&dropped, Duration::ZERO);
    writer.append(b"lost\nlost, too\n", true);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while dropped.get() < 2 {
        assert!(std::time::Instant::now() < deadline, "no line is counted");
        thread::yield_now();
    }
    let (from, to) = io::pipe().unwrap();
    *writer.0.sink.lock() = Sink::from(File::from(OwnedFd::from(to)));
    writer.append(b"written\n", true);
    drop(thread);
    drop(writer);
    assert_eq!(read_all(from).join().unwrap(), "written\n");
    assert_eq!(dropped.get(), 2);
}

/// More than a pipe holds.
fn large_line() -> Vec<u8> {
    let mut line = vec![b'x'; 100_000];
    line[99_999] = b'\n';
    line
}

#[test]
fn lines_gather_for_one_write_until_one_is_urgent() {
    let (writer, from) = datagrams();
    let _thread = start(&writer, FOREVER);
    writer.append(b"first\n", false);
    assert_eq!(next(&from), "first\n", "a line alone is written at once");
    let mut all = String::new();
    for number in 0..1000 {
        let line = format!("line {number}\n");
        writer.append(line.as_bytes(), false);
        all += &line;
    }
    writer.append(b"urgent\n", true);
    assert_eq!(next(&from), all + "urgent\n");
}

#[test]
fn lines_are_written_after_a_pause_at_the_latest() {
    let (writer, from) = datagrams();
    let _thread = start(&writer, Duration::from_millis(1));
    for line in ["one\n", "two\n"] {
        writer.append(line.as_bytes(), false);
        assert_eq!(next(&from), line);
    }
}

#[test]
fn before_the_thread_starts_lines_are_written_at_once_and_at_its_end_none_is_left() {
    let (writer, from) = datagrams();
    writer.append(b"before\n", false);
    assert_eq!(next(&from), "before\n");
    let thread = start(&writer, FOREVER);
    writer.append(b"first\n", false);
    assert_eq!(next(&from), "first\n");
    writer.append(b"second\n", false);
    drop(thread);
    assert_eq!(next(&from), "second\n", "the end does not wait for the pause");
}

#[test]
fn many_threads_lose_and_mix_nothing() {
    let (writer, from) = pipe();
    let reader = read_all(from);
    let dropped = DroppedLines::default();
    let log = writer.start(&dropped, Duration::from_millis(1));
    thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let writer = &writer;
            scope.spawn(move || {
                for number in 0..1000 {
                    writer.append(format!("{name} {number}\n").as_bytes(), number % 100 == 0);
                }
            });
        }
    });
    drop((log, writer));
    let read = reader.join().unwrap();
    assert_eq!(dropped.get(), 0);
    for name in ["a", "b", "c", "d"] {
        let numbers = read.lines().filter_map(|line| line.strip_prefix(name));
        let numbers: Vec<usize> = numbers.map(|number| number.trim().parse().unwrap()).collect();
        assert!(numbers.into_iter().eq(0..1000), "{name}");
    }
}

#[test]
fn lines_that_a_stuck_reader_leaves_no_room_for_are_dropped_and_counted() {
    let (writer, from, log, dropped) = stuck();
    for number in 0..QUEUE + 10 {
        writer.append(format!("line {number}\n").as_bytes(), false);
    }
    let lost = dropped.get();
    assert_eq!(lost, 10);

    let reader = read_all(from);
    drop((log, writer));
    let read = reader.join().unwrap();
    assert_eq!(read.matches("line ").count() as u64 + lost, QUEUE as u64 + 10);
}

#[test]
fn a_stuck_reader_does_not_keep_the_process_from_its_end() {
    let (writer, from, thread, _) = stuck();
    for _ in 0..2 * QUEUE {
        writer.append(b"line\n", true);
    }
    let began = std::time::Instant::now();
    drop(thread);
    assert!(began.elapsed() < 2 * FLUSH_TIMEOUT);
    drop(from);
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let (writer, from) = pipe();
    drop(from);
    writer.append(b"before\n", false);
    let thread = start(&writer, Duration::ZERO);
    writer.append(b"meanwhile\n", true);
    drop(thread);
}

#[test]
fn a_slow_reader_of_a_pipe_that_does_not_block_gets_every_byte() {
    let (from, to) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&to, true).unwrap();
    let writer = writer(to);
    let thread = start(&writer, Duration::ZERO);
    writer.append(&large_line(), true);
    let reader = read_all(from);
    drop((thread, writer));
    assert_eq!(reader.join().unwrap().as_bytes(), large_line());
}
