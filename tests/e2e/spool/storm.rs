//! Thousands of messages while callers and daemons are killed at every point of a pull, by a seeded choice: each message
//! is delivered in order, or reported.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bondgate::simulator::{Handle, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{files, request};
use crate::harness::{Daemon, PATIENCE, Setup, simulator};
use crate::wire::reset;

/// What a caller does in one pull.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Plan {
    /// Reads its answer and closes in good order.
    Whole,
    /// Reads its answer and closes its side just before the next pull.
    Stay,
    /// Resets the connection this long after its request.
    LeaveAfter(Duration),
    /// Resets the connection when so many bytes of the answer have come.
    LeaveAt(usize),
    /// Reads its answer, and resets the connection.
    ResetAtEnd,
    /// Reads on, while the daemon is killed this long after the request.
    Kill(Duration),
    /// Reads so many bytes of the answer; then the daemon is killed.
    KillAt(usize),
}

/// What the caller received.
#[derive(Debug)]
enum Got {
    Message {
        number: usize,
        is_redelivered: bool,
    },
    Empty,
    /// An answer of bondgate's own.
    Refused(u16),
    /// Not all of an answer.
    Nothing,
}

struct Storm {
    cisco: Handle,
    messages: usize,
    daemons: Vec<Daemon>,
    random: fastrand::Rng,
    /// The numbers that were read to their end, in the order in which they were.
    read: Vec<usize>,
    /// The numbers that a pull may have been at when a daemon was killed.
    at_a_kill: BTreeSet<usize>,
    kills: usize,
    refused: usize,
    /// Pulls since the last one that brought a message to a caller that closed in good order.
    failures: usize,
    /// The numbers that may come later than in their turn.
    skipped: BTreeSet<usize>,
    reported: usize,
    /// A file beside the spool that occupies disk space.
    ballast: Option<PathBuf>,
    /// A connection whose response was read, and which is open still.
    open: Option<TcpStream>,
}

fn body(number: usize) -> String {
    let size = if number % 16 == 7 {
        // Most of the disk space that is reserved before a pull.
        1_500_000
    } else {
        number * 37 % 2000
    };
    format!(
        "{{\"Calls\":{{\"CustCallID\":\"{number:07}\"}},\"x\":\"{}\"}}",
        "x".repeat(size)
    )
}

fn daemon(cisco: &Handle, spool: &Path) -> Setup {
    Setup::at(cisco)
        .and(&format!("[spool]\ndirectory = {spool:?}\npauses = [\"0s\"]\n"))
        .environment("BONDGATE_LOG", "bondgate=info")
}

impl Storm {
    async fn new(messages: usize, daemons: usize, spool: &Path, seed: u64) -> Self {
        println!("seed {seed}");
        let cisco = simulator(Options::default()).await;
        let mut storm = Self {
            messages,
            daemons: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            read: Vec::new(),
            at_a_kill: BTreeSet::new(),
            kills: 0,
            refused: 0,
            failures: 0,
            skipped: BTreeSet::new(),
            reported: 0,
            ballast: None,
            open: None,
            cisco,
        };
        for _ in 0..daemons {
            storm.daemons.push(daemon(&storm.cisco, spool).start().await);
        }
        for number in 0..messages {
            storm.cisco.put_raw_message("demo", body(number));
        }
        storm
    }

    /// Changes how much of a disk of 4 MiB is free.
    fn load_ballast(&mut self) {
        if let Some(ballast) = &self.ballast
            && self.random.u32(0..4) == 0
        {
            let size = self.random.usize(0..5 << 20);
            // It may not fit.
            let _ = std::fs::write(ballast, vec![0; size]);
        }
    }

    fn plan(&mut self) -> Plan {
        let moment = Duration::from_micros(self.random.u64(0..15_000));
        let bytes = self.random.usize(1..2500);
        match self.random.u32(0..100) {
            0..40 => Plan::Whole,
            40..65 => Plan::Stay,
            65..75 => Plan::LeaveAfter(moment),
            75..85 => Plan::LeaveAt(bytes),
            85..90 => Plan::ResetAtEnd,
            90..97 => Plan::Kill(moment),
            _ => Plan::KillAt(bytes),
        }
    }

    /// Pulls until Cisco's queue and the spool are empty.
    async fn run(&mut self, spool: &Path) {
        let mut refused_in_a_row = 0;
        loop {
            self.load_ballast();
            let plan = self.plan();
            let at = self.random.usize(0..self.daemons.len());
            if !matches!(plan, Plan::Whole | Plan::Stay) {
                self.failures += 1;
            }
            match self.pull(plan, at, spool).await {
                Got::Message {
                    number,
                    is_redelivered,
                } => {
                    refused_in_a_row = 0;
                    let last = self.read.last().copied();
                    if self.failures >= 5 {
                        // After five failed deliveries of a message the next one is tried once before it.
                        self.skipped.extend(last.unwrap_or(0)..number);
                    }
                    assert!(
                        last.is_none_or(|last| number >= last) || self.skipped.contains(&number),
                        "{number} came after {last:?} ({plan:?})"
                    );
                    if matches!(plan, Plan::Whole | Plan::Stay) {
                        self.failures = 0;
                    }
                    let is_again = last == Some(number);
                    assert!(
                        is_redelivered || !is_again,
                        "{number} came twice and did not say so"
                    );
                    self.read.push(number);
                }
                Got::Empty if self.cisco.queue_len() == 0 => break,
                Got::Empty => panic!("empty, with {} at Cisco", self.cisco.queue_len()),
                Got::Refused(status) => {
                    assert_eq!(status, 503, "{plan:?}");
                    refused_in_a_row += 1;
                    self.refused += 1;
                    assert!(refused_in_a_row < 100, "no pull succeeds any more");
                }
                Got::Nothing => {}
            }
        }
        for daemon in &self.daemons {
            self.reported += reports(daemon);
        }
        let read: BTreeSet<usize> = self.read.iter().copied().collect();
        // Of five failed deliveries, with the next one delivered.
        let dead: BTreeSet<usize> = files(spool, "dead").iter().map(|file| in_file(file)).collect();
        let missing: BTreeSet<usize> = (0..self.messages)
            .filter(|number| !read.contains(number) && !dead.contains(number))
            .collect();
        println!(
            "{} messages, {} daemons killed, {} pulls refused, {} messages read again, {} perhaps lost as reported, {} missing",
            self.messages,
            self.kills,
            self.refused,
            self.read.len() - read.len(),
            self.reported,
            missing.len(),
        );
        let unexplained: Vec<_> = missing.difference(&self.at_a_kill).collect();
        assert!(
            unexplained.is_empty(),
            "{unexplained:?} of {missing:?} were lost without a kill"
        );
        assert!(
            missing.len() <= self.reported,
            "{missing:?} are lost, and only {} reported",
            self.reported
        );
    }

    async fn pull(&mut self, plan: Plan, at: usize, spool: &Path) -> Got {
        drop(self.open.take());
        let mut stream = TcpStream::connect(self.daemons[at].address()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        if stream.write_all(request("GET").as_bytes()).await.is_err() {
            return Got::Nothing;
        }
        let mut answer = Vec::new();
        if let Plan::Kill(_) | Plan::KillAt(_) = plan {
            // What the pull before this one has, if that is still under way, and what this one may take. The
            // simulator is as busy as everything here: it may come to the request of a daemon that was killed
            // only after it has answered the next one's.
            let handed = self.messages - self.cisco.queue_len();
            self.at_a_kill.extend(handed.saturating_sub(1)..=handed + 3);
        }
        match plan {
            Plan::LeaveAfter(moment) => {
                tokio::time::sleep(moment).await;
                reset(&stream);
                return Got::Nothing;
            }
            Plan::LeaveAt(bytes) => {
                some(&mut stream, &mut answer, bytes).await;
                reset(&stream);
                return Got::Nothing;
            }
            Plan::Kill(moment) => {
                tokio::time::sleep(moment).await;
                self.kill(at, spool).await;
            }
            Plan::KillAt(bytes) => {
                some(&mut stream, &mut answer, bytes).await;
                self.kill(at, spool).await;
            }
            Plan::Whole | Plan::Stay | Plan::ResetAtEnd => {}
        }
        let is_whole = tokio::time::timeout(PATIENCE, whole(&mut stream, &mut answer)).await;
        if !is_whole.expect("an answer comes, or the end") {
            return Got::Nothing;
        }
        match plan {
            Plan::Stay => self.open = Some(stream),
            Plan::ResetAtEnd => reset(&stream),
            _ => {}
        }
        parse(&answer)
    }

    async fn kill(&mut self, at: usize, spool: &Path) {
        let mut killed = self.daemons.remove(at);
        killed.signal("KILL");
        killed.ended().await;
        self.open = None;
        self.kills += 1;
        self.reported += reports(&killed);
        let next = daemon(&self.cisco, spool).start().await;
        self.daemons.insert(at, next);
    }
}

/// Reads until so many bytes are there, or the end.
async fn some(stream: &mut TcpStream, answer: &mut Vec<u8>, bytes: usize) {
    let mut room = vec![0; bytes];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut room)).await;
    let count = read.expect("an answer comes, or the end").unwrap_or(0);
    answer.extend_from_slice(&room[..count]);
}

/// Reads an answer to its end; whether there was one.
async fn whole(stream: &mut TcpStream, answer: &mut Vec<u8>) -> bool {
    let mut room = vec![0; 64 << 10];
    while length(answer).is_none_or(|length| answer.len() < length) {
        match stream.read(&mut room).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => answer.extend_from_slice(&room[..count]),
        }
    }
    true
}

/// How long an answer is in all, once its head is there.
fn length(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let (_, length) = head.split_once("content-length: ")?;
    let length: usize = length.split("\r\n").next()?.parse().ok()?;
    Some(end + length)
}

fn parse(answer: &[u8]) -> Got {
    let text = String::from_utf8_lossy(answer);
    let (head, text) = text.split_once("\r\n\r\n").unwrap();
    let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status != 200 {
        return Got::Refused(status);
    }
    if text.contains("No messages available") {
        return Got::Empty;
    }
    let number = number(text);
    assert_eq!(text, body(number), "the message is as Cisco sent it");
    let is_redelivered = head.to_ascii_lowercase().contains("\r\nbondgate-redelivered: ");
    Got::Message {
        number,
        is_redelivered,
    }
}

/// The number of the message in a text.
fn number(text: &str) -> usize {
    let (_, number) = text.split_once("CustCallID\":\"").unwrap();
    number[..7].parse().unwrap()
}

fn in_file(file: &Path) -> usize {
    number(&String::from_utf8_lossy(&std::fs::read(file).unwrap()))
}

fn reports(daemon: &Daemon) -> usize {
    let log = daemon.log();
    log.iter()
        .filter(|line| line.contains("a message may be lost"))
        .count()
}

fn seed() -> u64 {
    let given = std::env::var("BONDGATE_TEST_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap())
}

#[tokio::test]
async fn each_message_reaches_its_caller_in_order_whatever_is_killed() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    Storm::new(150, 1, &spool, seed()).await.run(&spool).await;
}

#[tokio::test]
#[ignore = "takes a minute; run by .ci/run"]
async fn each_of_a_thousand_messages_reaches_its_caller_in_order_whatever_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    Storm::new(1000, 1, &spool, seed()).await.run(&spool).await;
}

#[tokio::test]
#[ignore = "takes minutes; run by .ci/soak"]
async fn each_of_thousands_of_messages_reaches_its_caller_in_order_whatever_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    Storm::new(3000, 1, &spool, seed()).await.run(&spool).await;
}

#[tokio::test]
#[ignore = "takes a minute; run by .ci/run"]
async fn each_of_a_thousand_messages_reaches_its_caller_with_two_daemons_on_one_directory() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    Storm::new(1000, 2, &spool, seed()).await.run(&spool).await;
}

/// Runs this very test within a disk of 4 MiB, or says where that is.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return Some(disk.into());
    }
    let disk = tempfile::tempdir().unwrap();
    let inside = format!(
        "mount -t tmpfs -o size=4m tmpfs {disk} && exec {program} --ignored --nocapture --exact spool::storm::{test}",
        disk = disk.path().display(),
        program = std::env::current_exe().unwrap().display(),
    );
    let status = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &inside])
        .env(SMALL_DISK, disk.path())
        .status();
    assert!(status.unwrap().success(), "the test failed within its small disk");
    None
}

const SMALL_DISK: &str = "BONDGATE_TEST_SMALL_DISK";

#[tokio::test]
#[ignore = "needs unshare and mount, as root or in a user namespace; run by .ci/run"]
async fn each_message_reaches_its_caller_from_a_disk_that_fills_up() {
    let Some(disk) = small_disk("each_message_reaches_its_caller_from_a_disk_that_fills_up") else {
        return;
    };
    let spool = disk.join("spool");
    let mut storm = Storm::new(500, 1, &spool, seed()).await;
    storm.ballast = Some(disk.join("ballast"));
    storm.run(&spool).await;
    assert!(storm.refused > 0, "the disk was never full");
}
