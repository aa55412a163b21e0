use std::io::{PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use super::*;

/// Longer than any test: who waits for it waits for something else.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn tell_dropped(writer: &Writer, lines: u64) {
    writer.append(format!("{lines} dropped\n").as_bytes(), true);
}

fn terms(gather: Duration, bound: usize) -> Terms {
    Terms {
        gather,
        bound,
        patience: FOR_EVER,
        tell_dropped,
    }
}

fn of(file: File) -> Sink {
    Sink::File {
        path: PathBuf::new(),
        file: ArcSwap::from_pointee(file),
    }
}

/// A writer whose every write is a message of its own.
fn writes(gather: Duration) -> (Arc<Writer>, UnixDatagram) {
    let (to, from) = UnixDatagram::pair().unwrap();
    let sink = of(File::from(OwnedFd::from(to)));
    (Writer::new(sink, terms(gather, 1 << 20)), from)
}

fn next(from: &UnixDatagram) -> String {
    let mut room = vec![0; 1 << 20];
    let length = from.recv(&mut room).unwrap();
    String::from_utf8(room[..length].to_vec()).unwrap()
}

/// A writer to a pipe that is full before its first line is written.
fn pipe(terms: Terms) -> (Arc<Writer>, PipeReader) {
    let (from, to) = io::pipe().unwrap();
    let sink = of(File::from(OwnedFd::from(to)));
    (Writer::new(sink, terms), from)
}

/// More than a pipe holds.
fn large_line() -> Vec<u8> {
    let mut line = vec![b'x'; 100_000];
    line[99_999] = b'\n';
    line
}

#[test]
fn lines_gather_for_one_write_until_one_is_urgent() {
    let (writer, from) = writes(FOR_EVER);
    let _thread = writer.start(Counter::default()).unwrap();
    let mut all = String::new();
    for number in 0..1000 {
        let line = format!("line {number}\n");
        writer.append(line.as_bytes(), false);
        all += &line;
    }
    writer.append(b"urgent\n", true);
    assert_eq!(next(&from), all + "urgent\n");
    // And again, when it has slept.
    writer.append(b"patient\n", false);
    writer.append(b"urgent\n", true);
    assert_eq!(next(&from), "patient\nurgent\n");
}

#[test]
fn a_line_alone_is_written_after_a_moment() {
    let (writer, from) = writes(Duration::from_millis(1));
    let _thread = writer.start(Counter::default()).unwrap();
    for line in ["one\n", "two\n"] {
        writer.append(line.as_bytes(), false);
        assert_eq!(next(&from), line);
    }
}

#[test]
fn without_a_thread_each_line_is_written_by_who_has_it() {
    let (writer, from) = writes(FOR_EVER);
    writer.append(b"before\n", false);
    assert_eq!(next(&from), "before\n");
    let thread = writer.start(Counter::default()).unwrap();
    writer.append(b"meanwhile\n", false);
    drop(thread);
    writer.append(b"after\n", false);
    assert_eq!(next(&from), "meanwhile\n", "the end does not gather");
    assert_eq!(next(&from), "after\n");
}

#[test]
fn many_threads_lose_and_mix_nothing() {
    let (writer, mut from) = pipe(terms(Duration::from_millis(1), 1 << 20));
    let reader = thread::spawn(move || {
        let mut read = String::new();
        from.read_to_string(&mut read).unwrap();
        read
    });
    let log = writer.start(Counter::default()).unwrap();
    thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let writer = &writer;
            scope.spawn(move || {
                for number in 0..5000 {
                    writer.append(format!("{name} {number}\n").as_bytes(), number % 100 == 0);
                }
            });
        }
    });
    drop((log, writer));
    let read = reader.join().unwrap();
    for name in ["a", "b", "c", "d"] {
        let numbers = read.lines().filter_map(|line| line.strip_prefix(name));
        let numbers: Vec<usize> = numbers.map(|number| number.trim().parse().unwrap()).collect();
        assert!(numbers.into_iter().eq(0..5000), "{name}");
    }
}

#[test]
fn what_a_reader_that_stands_still_has_no_room_for_is_dropped_counted_and_told() {
    let (writer, mut from) = pipe(terms(Duration::ZERO, 100_050));
    let dropped = Counter::default();
    let thread = writer.start(dropped.clone()).unwrap();
    writer.append(&large_line(), true);
    while writer.lock().in_hand == 0 {
        thread::yield_now();
    }
    // While it is being written there is room for five more.
    for number in 0..8 {
        writer.append(format!("line no {number}\n").as_bytes(), number > 2);
    }
    assert_eq!(dropped.get(), 3);

    let reader = thread::spawn(move || {
        let mut read = String::new();
        from.read_to_string(&mut read).unwrap();
        read
    });
    drop(thread);
    // There is room again.
    writer.append(b"and on\n", false);
    drop(writer);
    let read = reader.join().unwrap();
    let told: Vec<&str> = read.lines().skip(1).collect();
    let kept = ["line no 0", "line no 1", "line no 2", "line no 3", "line no 4"];
    assert_eq!(told[..5], kept);
    assert_eq!(told[5..], ["3 dropped", "and on"]);
}

#[test]
fn a_reader_that_stands_still_does_not_keep_the_process_from_its_end() {
    let terms = Terms {
        patience: Duration::from_millis(1),
        ..terms(FOR_EVER, 1 << 20)
    };
    let (writer, from) = pipe(terms);
    let thread = writer.start(Counter::default()).unwrap();
    writer.append(&large_line(), true);
    drop(thread);
    // Nor does a line that comes later.
    writer.append(&large_line(), true);
    drop(from);
}

#[test]
fn a_reader_that_has_gone_is_no_fault() {
    let (writer, from) = pipe(terms(Duration::ZERO, 1 << 20));
    drop(from);
    writer.append(b"before\n", false);
    let thread = writer.start(Counter::default()).unwrap();
    writer.append(b"meanwhile\n", true);
    drop(thread);
    writer.append(b"after\n", false);
    assert!(writer.lock().waiting.is_empty());
}

#[test]
fn a_slow_reader_of_a_pipe_that_does_not_block_gets_every_byte() {
    let (from, to) = io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&to, true).unwrap();
    let sink = of(File::from(OwnedFd::from(to)));
    let writer = Writer::new(sink, terms(Duration::ZERO, 1 << 20));
    let thread = writer.start(Counter::default()).unwrap();
    writer.append(&large_line(), true);
    let reader = thread::spawn(move || {
        let mut read = Vec::new();
        (&from).read_to_end(&mut read).unwrap();
        read
    });
    drop((thread, writer));
    assert_eq!(reader.join().unwrap(), large_line());
}
