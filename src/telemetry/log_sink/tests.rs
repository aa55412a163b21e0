use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

struct Log {
    directory: TempDir,
    path: PathBuf,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bondgate.log");
        Self { directory, path }
    }

    /// A process that writes to it.
    fn open(&self, size: u64, keep: usize) -> Sink {
        let rotation = LogRotation {
            size: Some(size),
            age: None,
            keep,
        };
        Sink::file(&self.path, Some(&rotation)).unwrap()
    }

    /// The contents of the rotated files, in their order.
    fn rotated(&self) -> Vec<String> {
        let mut files = self.all();
        files.remove("bondgate.log");
        files.into_values().collect()
    }

    fn all(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect()
    }

    fn present(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }
}

fn write(sink: &mut Sink, lines: &str) {
    sink.rotate(lines.len()).unwrap();
    assert_eq!(sink.write(lines.as_bytes()), 0);
}

#[test]
fn lines_that_do_not_fit_into_the_file_begin_a_new_one() {
    let log = Log::new();
    let mut sink = log.open(12, 10);
    for line in [
        "first\n",
        "second\n",
        "third\n",
        "a line that is too long\n",
        "last\n",
    ] {
        write(&mut sink, line);
    }
    assert_eq!(log.present(), "last\n");
    let mut rotated = log.rotated();
    rotated.sort();
    assert_eq!(
        rotated,
        ["a line that is too long\n", "first\n", "second\n", "third\n"]
    );
}

#[test]
fn a_restarted_process_continues_the_file_and_rotates_it() {
    let log = Log::new();
    write(&mut log.open(12, 10), "first\n");
    write(&mut log.open(12, 10), "next\n");
    assert_eq!(log.present(), "first\nnext\n");
    write(&mut log.open(12, 10), "last\n");
    assert_eq!(
        (log.present().as_str(), log.rotated()),
        ("last\n", vec!["first\nnext\n".to_owned()])
    );
}

#[test]
fn no_more_rotated_files_stay_than_are_kept() {
    let log = Log::new();
    let mut sink = log.open(1, 3);
    for number in 0..20 {
        write(&mut sink, &format!("{number}\n"));
    }
    assert_eq!(log.present(), "19\n");
    let mut rotated = log.rotated();
    rotated.sort();
    assert_eq!(rotated, ["16\n", "17\n", "18\n"]);
}

#[test]
fn both_of_two_processes_end_in_the_new_file() {
    let log = Log::new();
    let (mut one, mut other) = (log.open(20, 10), log.open(20, 10));
    write(&mut one, "one: first\n");
    write(&mut other, "two: x\n");
    write(&mut one, "one: second\n");
    write(&mut other, "two: y\n");
    assert_eq!(log.present(), "one: second\ntwo: y\n");
    assert_eq!(log.rotated(), ["one: first\ntwo: x\n"]);
}

#[test]
fn two_processes_that_rotate_at_the_same_time_lose_no_line() {
    const LINES: usize = 400;
    let log = Log::new();
    thread::scope(|scope| {
        for name in ["a", "b"] {
            let mut sink = log.open(64, usize::MAX);
            scope.spawn(move || {
                for number in 0..LINES {
                    write(&mut sink, &format!("{name} {number}\n"));
                }
            });
        }
    });
    let all: String = log.all().into_values().collect();
    for name in ["a", "b"] {
        let numbers = all.lines().filter_map(|line| line.strip_prefix(name));
        let mut numbers: Vec<usize> = numbers.map(|number| number.trim().parse().unwrap()).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..LINES), "{name}");
    }
    assert!(log.all().len() > 2);
}

#[test]
fn a_file_that_is_too_old_is_rotated_once_with_two_processes() {
    let log = Log::new();
    fs::write(&log.path, "2026-01-02T03:04:05.000000Z  INFO starting\n").unwrap();
    let rotation = LogRotation {
        size: None,
        age: Some(Duration::from_secs(3600)),
        keep: 10,
    };
    let open = || Sink::file(&log.path, Some(&rotation)).unwrap();
    let (mut one, mut other) = (open(), open());
    for line in ["first\n", "second\n"] {
        write(&mut one, line);
        write(&mut other, line);
    }
    assert_eq!(log.present(), "first\nfirst\nsecond\nsecond\n");
    assert_eq!(log.rotated().len(), 1);
}

#[test]
fn while_rotation_fails_lines_are_written_on_and_one_error_is_reported() {
    let log = Log::new();
    let mut sink = log.open(1, 10);
    write(&mut sink, "first\n");
    // Its folder has gone, and with it the place of a new file.
    let parked = log.directory.path().with_extension("parked");
    fs::rename(log.directory.path(), &parked).unwrap();
    let error = sink.rotate(1).unwrap_err();
    assert!(matches!(error, RotationError::Rotate(_)), "{error:?}");
    write(&mut sink, "second\n");
    fs::rename(&parked, log.directory.path()).unwrap();
    write(&mut sink, "third\n");
    assert_eq!(
        log.present(),
        "first\nsecond\nthird\n",
        "the next attempt is made later"
    );
}

#[cfg(unix)]
#[test]
fn a_link_stays_and_its_file_is_rotated() {
    let log = Log::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("link");
    std::os::unix::fs::symlink(&log.path, &link).unwrap();
    let rotation = LogRotation {
        size: Some(1),
        age: None,
        keep: 1,
    };
    let mut sink = Sink::file(&link, Some(&rotation)).unwrap();
    for line in ["first\n", "second\n", "third\n"] {
        write(&mut sink, line);
    }
    assert_eq!(
        (log.present().as_str(), log.rotated()),
        ("third\n", vec!["second\n".to_owned()])
    );
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn without_rotation_a_file_grows() {
    let log = Log::new();
    let mut sink = Sink::file(&log.path, None).unwrap();
    write(&mut sink, "first\n");
    write(&mut sink, "second\n");
    assert_eq!(log.present(), "first\nsecond\n");
}

#[cfg(unix)]
#[test]
fn a_device_is_never_rotated() {
    let rotation = LogRotation {
        size: Some(1),
        age: None,
        keep: 1,
    };
    let mut device = Sink::file(Path::new("/dev/null"), Some(&rotation)).unwrap();
    write(&mut device, "first\n");
    write(&mut device, "second\n");
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}
