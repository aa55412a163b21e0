use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn rules(size: Option<u64>, age: Option<Duration>) -> LogRotation {
    LogRotation { size, age, keep: 10 }
}

fn rotation(size: Option<u64>, age: Option<Duration>, begun: SystemTime) -> Rotation {
    Rotation {
        rules: rules(size, age),
        begun,
        failed: None,
    }
}

fn time(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).unwrap()
}

fn file(name: &str) -> Option<Rotated> {
    parse_name(OsStr::new("bondgate.log"), name.into())
}

#[test]
fn a_file_is_due_before_it_grows_beyond_the_size() {
    let now = SystemTime::now();
    let mut rotation = rotation(Some(100), None, now);
    assert!(!rotation.is_due(60, 40, now));
    assert!(rotation.is_due(60, 41, now));
    assert!(rotation.is_due(101, 0, now + HOUR));
    assert!(!rotation.is_due(0, 1000, now), "an empty file is not rotated");
}

#[test]
fn a_file_is_due_at_the_age_and_without_an_age_never() {
    let begun = time("2026-11-29T14:15:00Z");
    let mut of_age = rotation(None, Some(HOUR), begun);
    assert!(!of_age.is_due(1, 1, begun + HOUR - Duration::from_secs(1)));
    assert!(of_age.is_due(1, 1, begun + HOUR));
    assert!(!rotation(Some(u64::MAX), None, begun).is_due(1, 1, begun + 10_000 * HOUR));
}

#[test]
fn the_age_of_an_empty_file_counts_from_its_first_line() {
    let begun = time("2026-11-29T14:15:00Z");
    let mut rotation = rotation(None, Some(HOUR), begun);
    assert!(!rotation.is_due(0, 1, begun + 5 * HOUR));
    assert!(!rotation.is_due(1, 1, begun + 5 * HOUR));
    assert!(rotation.is_due(1, 1, begun + 6 * HOUR));
}

#[test]
fn after_a_clock_was_put_back_the_age_counts_from_then() {
    let now = time("2026-11-29T14:15:00Z");
    let mut rotation = rotation(None, Some(HOUR), time("2099-01-01T00:00:00Z"));
    assert!(!rotation.is_due(1, 1, now));
    assert!(rotation.is_due(1, 1, now + HOUR));
}

#[test]
fn the_age_of_a_file_counts_from_its_first_line_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bondgate.log");
    for line in [
        "2026-01-02T03:04:05.000000Z  INFO starting version=\"0.1.0\" and so on and on and on\n",
        "{\"timestamp\":\"2026-01-02T03:04:05.000000Z\",\"level\":\"INFO\",\"message\":\"starting\"}\n",
    ] {
        fs::write(&path, line.repeat(2)).unwrap();
        let opened = File::open(&path).unwrap();
        let rotation = Rotation::new(rules(None, Some(HOUR)), &path, &opened);
        assert_eq!(rotation.begun, time("2026-01-02T03:04:05Z"), "{line}");
    }
    fs::write(&path, "a line of another program\n").unwrap();
    let opened = File::options().write(true).open(&path).unwrap();
    opened.set_modified(time("2026-05-06T07:08:09Z")).unwrap();
    let rotation = Rotation::new(rules(None, Some(HOUR)), &path, &opened);
    assert_eq!(rotation.begun, time("2026-05-06T07:08:09Z"));
}

#[test]
fn a_failure_is_reported_once_until_rotation_works_again() {
    let mut rotation = rotation(Some(1), None, SystemTime::now());
    let failed = || Err(io::Error::from(ErrorKind::PermissionDenied));
    assert!(!rotation.is_paused());
    assert!(rotation.record(failed()).is_err());
    assert!(rotation.is_paused());
    rotation.failed = Instant::now().checked_sub(RETRY);
    assert!(!rotation.is_paused());
    rotation.failed = Some(Instant::now());
    assert!(rotation.record(failed()).is_ok());
    assert!(rotation.record(Ok(())).is_ok());
    assert!(!rotation.is_paused());
    assert!(rotation.record(failed()).is_err());
}

#[test]
fn only_names_of_this_log_s_rotated_files_are_taken_for_one() {
    let rotated = file("bondgate.log.20261129T141500Z").unwrap();
    assert_eq!((rotated.time.as_str(), rotated.number), ("20261129T141500Z", 1));
    assert_eq!(file("bondgate.log.20261129T141500Z-12").unwrap().number, 12);
    for other in [
        "bondgate.log",
        "bondgate.log.",
        "bondgate.log.1",
        "bondgate.log.20261129T141500",
        "bondgate.log.20261129T141500z",
        "bondgate.log.20261129 141500Z",
        "bondgate.log.2026112xT141500Z",
        "bondgate.log.20261129T141500Z.gz",
        "bondgate.log.20261129T141500Z-",
        "bondgate.log.20261129T141500Z-0",
        "bondgate.log.20261129T141500Z-1",
        "bondgate.log.20261129T141500Z-02",
        "bondgate.log.20261129T141500Z-+2",
        "bondgate.log.20261129T141500Z-2~",
        "bondgate.log.20261129T141500Z-99999999999",
        "bondgate.log.\u{663}\u{663}\u{663}\u{663}1129T141500Z",
        "bondgate.log-20261129T141500Z",
        "other.log.20261129T141500Z",
        "a.bondgate.log.20261129T141500Z",
    ] {
        assert_eq!(file(other), None, "{other}");
    }
}

#[test]
fn the_newest_files_are_kept_by_time_and_number() {
    let names = [
        "bondgate.log.20261129T141500Z-10",
        "bondgate.log.20251129T141500Z",
        "bondgate.log.20261129T141501Z",
        "bondgate.log.20261129T141500Z-2",
        "bondgate.log.20261129T141500Z",
    ];
    let removed = |keep| {
        let files = names.iter().filter_map(|name| file(name)).collect();
        let removed = superfluous(files, keep, "20270101T000000Z").into_iter();
        removed
            .map(|file| file.name.into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(removed(5), [""; 0]);
    assert_eq!(removed(3), [names[1], names[4]]);
    assert_eq!(removed(1), [names[1], names[4], names[3], names[0]]);
}

#[test]
fn files_of_a_clock_that_was_ahead_are_removed_before_new_ones() {
    let names = [
        "bondgate.log.20990101T000000Z",
        "bondgate.log.20990101T000001Z",
        "bondgate.log.20261129T141500Z",
    ];
    let files = names.iter().filter_map(|name| file(name)).collect();
    let removed = superfluous(files, 2, "20261129T141500Z");
    assert_eq!(removed, [file(names[0]).unwrap()]);
}

#[test]
fn a_rotated_file_replaces_no_other_one() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("bondgate.log");
    let now = time("2026-11-29T14:15:00.9Z");
    for text in ["one", "two", "three"] {
        fs::write(&log, text).unwrap();
        rename(&log, now).unwrap();
        assert!(!log.exists());
    }
    rename(&log, now).unwrap();
    let mut found = rotated_files(&log).unwrap();
    found.sort();
    let texts = found
        .iter()
        .map(|file| fs::read_to_string(directory.path().join(&file.name)).unwrap());
    assert!(texts.eq(["one", "two", "three"]), "{found:?}");
    assert!(found[0].name == "bondgate.log.20261129T141500Z" && found[2].number == 3);
}

#[test]
fn a_number_that_is_free_again_is_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("bondgate.log");
    fs::write(directory.path().join("bondgate.log.20261129T141500Z-3"), "").unwrap();
    let reserved = reserve(&log, time("2026-11-29T14:15:00Z")).unwrap();
    assert_eq!(reserved, directory.path().join("bondgate.log.20261129T141500Z-4"));
    let reserved = reserve(&log, time("2026-11-29T14:15:01Z")).unwrap();
    assert_eq!(reserved, directory.path().join("bondgate.log.20261129T141501Z"));
}

#[test]
fn old_files_are_removed_and_no_other_file_is() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("bondgate.log");
    let others = [
        "bondgate.log",
        "bondgate.log.1",
        "bondgate.log.20200101T000000Z.gz",
        "other.log.20200101T000000Z",
    ];
    let rotated = (0..12).map(|second| format!("bondgate.log.20200101T0000{second:02}Z"));
    for name in others.into_iter().map(str::to_owned).chain(rotated) {
        fs::write(directory.path().join(name), "").unwrap();
    }
    rotation(Some(1), None, SystemTime::now())
        .remove_old(&log)
        .unwrap();
    let mut left: Vec<_> = rotated_files(&log).unwrap();
    left.sort();
    assert_eq!(
        (left.len(), left[0].name.to_str()),
        (10, Some("bondgate.log.20200101T000002Z"))
    );
    assert!(others.iter().all(|name| directory.path().join(name).exists()));
}
