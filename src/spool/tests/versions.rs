//! Files of other versions: those of the formats so far are delivered, those of a later one are left as they are.

use std::collections::BTreeMap;

use hyper::ext::ReasonPhrase;
use sha2::{Digest, Sha256};

use super::super::format;
use super::*;
use crate::spelling;

/// A spool's directory of each format that was ever written. Format 0 is from before the first release; the files of format 1
/// must be readable by every later version.
const FORMATS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spool-formats");

/// The queue of these files.
fn queue() -> QueueId {
    QueueId {
        authority: "stage.example".to_owned(),
        client_id: "demo".to_owned(),
        route: "/sb-partner-oauth-proxy-api/rest/v1/pull/call".to_owned(),
    }
}

fn id(number: u64) -> MessageId {
    MessageId::for_test(1_764_080_000_000_000 + number)
}

fn name(number: u64, rest: &str) -> String {
    format!("{}.{rest}", id(number).digits())
}

fn copied(format: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, bytes) in files(&Path::new(FORMATS).join(format)) {
        let copy = directory.path().join(path);
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::write(copy, bytes).unwrap();
    }
    directory
}

/// All files in a directory, but for lock files.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("turn") {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

fn open_at(directory: &Path) -> Spool {
    open(&config::Spool {
        keep: Duration::from_secs(3600),
        messages: 10,
        ..config(Some(directory))
    })
}

/// Takes the next message and delivers it; `None` where one would be pulled.
async fn next(spool: &Spool) -> Option<(Bytes, u16)> {
    let respond = |taken| async {
        match taken {
            TakeOutcome::Message(delivery) => {
                let got = (body(&delivery), delivery.head().status.as_u16());
                assert!(delivery.redelivered().is_some());
                delivery.record(true).await;
                Some(got)
            }
            TakeOutcome::Pull(writer) => {
                writer.discard().await;
                None
            }
        }
    };
    let taken = spool.take(queue(), &Method::GET, "caller".into(), || true, respond);
    taken.await.unwrap()
}

fn listed(directory: &Path) -> Vec<(String, MessageState, u32)> {
    let listed = Listed::list(directory).unwrap().into_iter();
    let listed = listed.map(|listed| {
        let name = listed.name.split_once('/').unwrap().1.to_owned();
        (name, listed.file.state, listed.file.failures)
    });
    listed.collect()
}

#[test]
fn a_message_is_written_byte_for_byte_as_in_the_files_of_format_1() {
    let intent = Intent {
        id: id(1),
        queue: queue(),
        method: "GET".into(),
    };
    let (mut head, ()) = http::Response::new(()).into_parts();
    for (name, value) in [("content-type", "application/json"), ("x-transaction-id", "4711")] {
        head.headers.append(name, value.parse().unwrap());
    }
    head.extensions = spelling::extensions(["Content-Type", "X-Transaction-ID"]);
    head.extensions.insert(ReasonPhrase::from_static(b"Tres bien"));
    let body = b"{\"Calls\":{\"CustCallID\":\"INC0000001\"}}";
    let content = [&intent.line()[..], &format::head_line(&head), body].concat();
    let written = [&content[..], &format::trailer(Sha256::new_with_prefix(&content))].concat();
    let file = format!("{FORMATS}/format-1/{}/{}", queue().folder(), name(1, "0.msg"));
    assert_eq!(
        String::from_utf8_lossy(&written),
        String::from_utf8_lossy(&std::fs::read(file).unwrap())
    );
}

#[tokio::test]
async fn the_files_of_each_format_so_far_are_delivered_and_listed_in_every_state() {
    for format in ["format-0", "format-1"] {
        let directory = copied(format);
        let is_of = |(name, ..): &(String, MessageState, u32), number: u64| *name == id(number).digits();
        let before = listed(directory.path());
        for (number, state, failures) in [
            (1, MessageState::Ready, 0),
            (2, MessageState::Ready, 3),
            (3, MessageState::Pulling, 0),
            (4, MessageState::Pulling, 0),
            (5, MessageState::Delivered, 0),
            (7, MessageState::Lost, 0),
            (8, MessageState::Damaged, 0),
        ] {
            let found = before.iter().find(|listed| is_of(listed, number)).unwrap();
            assert_eq!((found.1, found.2), (state, failures), "{format}: {number}");
        }
        let spool = open_at(directory.path());
        // A whole pull of a killed process is a message.
        for number in 1..=3 {
            let (body, status) = next(&spool).await.unwrap();
            assert_eq!(
                body,
                format!("{{\"Calls\":{{\"CustCallID\":\"INC{number:07}\"}}}}")
            );
            assert_eq!(status, 200);
        }
        assert_eq!(next(&spool).await, None);
        let after = listed(directory.path());
        let states: Vec<_> = (1..=8)
            .map(|number| {
                after
                    .iter()
                    .find(|listed| is_of(listed, number))
                    .map(|listed| listed.1)
            })
            .collect();
        let dead = (format == "format-1").then_some(MessageState::DeadLetter);
        let (done, lost) = (Some(MessageState::Delivered), Some(MessageState::Lost));
        assert_eq!(
            states,
            [
                done,
                done,
                done,
                lost,
                done,
                dead,
                lost,
                Some(MessageState::Damaged)
            ],
            "{format}"
        );
        for listed in Listed::list(directory.path()).unwrap() {
            if listed.is_requeueable() {
                listed.requeue().unwrap();
            }
        }
        let mut redelivered = 0;
        while next(&spool).await.is_some() {
            redelivered += 1;
        }
        assert_eq!(redelivered, if format == "format-1" { 5 } else { 4 });
    }
}

#[tokio::test]
async fn states_of_format_0_that_are_unknown_today_are_listed_and_left_as_they_are() {
    let directory = copied("format-0");
    let before = files(directory.path());
    let spool = open_at(directory.path());
    while next(&spool).await.is_some() {}
    spool.shared.sweep(SystemTime::now()).unwrap();
    let unknown = ListedUnknown::list(directory.path()).unwrap();
    let texts: Vec<_> = unknown.iter().map(|file| file.unknown.to_string()).collect();
    assert_eq!(texts, ["unknown state aside", "unknown state sent"]);
    let after = files(directory.path());
    for file in &unknown {
        let path = Path::new(&file.name);
        assert_eq!(after[path], before[path]);
    }
    assert!(
        codes(&spool).contains(&"spool-files-unknown"),
        "{:?}",
        codes(&spool)
    );
}

/// A spool of an invented later version: format 2, a later state, a later folder for retained messages, and later folders for
/// queues. Returns the names of its files as commands show them.
fn write_later_version(directory: &Path) -> Vec<String> {
    let folder = queue().folder();
    let known = std::fs::read(format!("{FORMATS}/format-1/{folder}/{}", name(1, "0.msg"))).unwrap();
    let later = b"{\"format\":2,\"id\":7}\n\x00\x01 another layout".to_vec();
    let mut names = Vec::new();
    for (path, bytes) in [
        (
            format!("{folder}/{}", name(11, "0.msg")),
            [&later[..], &[b'x'; 200]].concat(),
        ),
        // Shorter than a trailer of format 1.
        (format!("{folder}/{}", name(12, "0.pull")), later.clone()),
        (format!("{folder}/{}", name(13, "5.dead")), later.clone()),
        (format!("{folder}/retained/{}", name(14, "0.done")), later.clone()),
        (format!("{folder}/{}", name(15, "0.held")), known.clone()),
        (format!("{folder}/archive/{}", name(16, "0.msg")), known.clone()),
        (format!("queues/stage/{}", name(17, "0.msg")), known.clone()),
        ("queues/stage/18.message".to_owned(), later),
        (name(19, "0.msg"), known),
    ] {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        names.push(path.strip_prefix(directory).unwrap().display().to_string());
    }
    names
}

#[tokio::test]
async fn the_files_of_a_later_version_are_listed_and_reported_and_left_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let written = write_later_version(directory.path());
    let before = files(directory.path());
    let spool = open_at(directory.path());
    assert_eq!(codes(&spool), ["spool-files-unknown"], "at the start");
    for _ in 0..2 {
        spool
            .shared
            .sweep(SystemTime::now() + Duration::from_secs(1 << 30))
            .unwrap();
        assert_eq!(next(&spool).await, None, "the queue goes on");
    }
    let problem = spool.problems().remove(0).problem;
    assert!(problem.cause().starts_with("9 files in the spool"), "{problem}");
    assert_eq!(check_files(directory.path()), Some(problem));
    let totals = spool.totals().await.unwrap();
    assert_eq!(
        totals,
        Totals {
            retained_bytes: totals.retained_bytes,
            ..Totals::default()
        }
    );

    let listed = Listed::list(directory.path()).unwrap();
    let unknown = ListedUnknown::list(directory.path()).unwrap();
    assert_eq!(listed.len() + unknown.len(), written.len());
    for message in &listed {
        assert!(message.is_later && !message.is_requeueable(), "{}", message.name);
        let refusal = message.requeue().unwrap_err().to_string();
        assert!(
            refusal.contains("a later bondgate wrote it (format 2)"),
            "{refusal}"
        );
    }
    for file in &unknown {
        assert!(written.contains(&file.name), "{}", file.name);
        let refusal = file.requeue().unwrap_err().to_string();
        assert!(
            refusal.contains(&format!("{} cannot be requeued: ", file.name)),
            "{refusal}"
        );
    }
    assert_eq!(files(directory.path()), before);

    for message in &listed {
        message.discard().unwrap();
    }
    for file in &unknown {
        let found = ListedUnknown::find(directory.path(), &file.name)
            .unwrap()
            .unwrap();
        found.discard().unwrap();
    }
    assert_eq!(files(directory.path()), BTreeMap::new());
    spool.totals().await.unwrap();
    assert_eq!(codes(&spool), [""; 0]);
}

#[tokio::test]
async fn files_of_other_programs_are_not_reported() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join(queue().folder());
    for folder in [folder, directory.path().join("lost+found")] {
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in [
            ("notes.txt", "remember"),
            ("empty", ""),
            ("settings.json", "{\"format\":\"wide\",\n\"a\":1}"),
            ("one.json", "{\"a\":1}\n"),
            ("18446744073709551615.0.msg", "too many digits"),
        ] {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let before = files(directory.path());
    let spool = open_at(directory.path());
    assert_eq!(next(&spool).await, None);
    spool.shared.sweep(SystemTime::now()).unwrap();
    assert_eq!(codes(&spool), [""; 0]);
    assert!(ListedUnknown::list(directory.path()).unwrap().is_empty());
    assert_eq!(files(directory.path()), before);
}
