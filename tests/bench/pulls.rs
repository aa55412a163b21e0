//! Pulls a second with one caller and with ten, without and with 100,000 retained messages in the spool directory:
//! `.ci/pulls [PROGRAM…]`, or `cargo bench --bench pulls [-- PROGRAM…]`.
//!
//! Each caller opens a connection for each pull and closes it after the response, as curl does. The upstream in this
//! process always has a message of 1 KiB. Programs and spools take turns, in several rounds, so that what else
//! the machine does affects all of them alike. All share the machine's processors: the rates compare programs, the
//! ratio to a spool without retained messages is what counts.

// Both benchmarks use a part of it.
#[allow(dead_code)]
mod upstream;

use std::fs;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bondgate::platform::files::create_private;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::upstream::Upstream;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(2);
const CALLERS: [usize; 2] = [1, 10];
const RETAINED: u64 = 100_000;
/// What is left of the rate, at least, when so many messages are retained.
const LEAST: f64 = 0.9;
const PATIENCE: Duration = Duration::from_secs(60);
const PULL: &[u8] = b"GET /pull HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n";

/// What a spool keeps, and what is in it before the first pull.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spool {
    /// `keep = "0s"`: delivered messages are removed.
    NotKept,
    /// `keep = "24h"`, and nothing there yet.
    Kept,
    /// `keep = "24h"`, and 100,000 messages that were delivered before.
    Full,
}

const SPOOLS: [Spool; 3] = [Spool::NotKept, Spool::Kept, Spool::Full];

/// A program with a spool directory of its own.
struct Stand {
    program: PathBuf,
    spool: Spool,
    directory: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    /// How long it took from the start of the program to the first response.
    started: Duration,
    /// Pulls a second for one caller and for ten, a round each.
    rates: [Vec<f64>; 2],
    /// Responses other than 200.
    refused: usize,
}

impl Spool {
    fn name(self) -> &'static str {
        match self {
            Self::NotKept => "keep = 0s",
            Self::Kept => "keep = 24h, empty at first",
            Self::Full => "keep = 24h, 100,000 retained",
        }
    }
}

impl Stand {
    async fn new(program: &Path, spool: Spool, upstream: &Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let directory = tempfile::tempdir().expect("a directory can be made");
        let (path, url) = (
            directory.path().display(),
            format!("https://localhost:{}", upstream.address.port()),
        );
        let keep = if spool == Spool::NotKept { "0s" } else { "24h" };
        let configuration = format!(
            "[upstream.bench]\npreset = \"none\"\nurl = \"{url}\"\ntoken_url = \"{url}/token\"\n\
             client_id = \"bench\"\nclient_secret = \"bench\"\nca_file = \"{path}/ca.pem\"\n\
             rules = [{{ methods = [\"GET\"], path = \"/pull\", consuming = true }}]\n\
             [[listener]]\naddress = \"{address}\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [server]\nlame_duck = \"0s\"\n[log]\nfile = \"{path}/log\"\n\
             [spool]\ndirectory = \"{path}/spool\"\nkeep = \"{keep}\"\n"
        );
        fs::write(directory.path().join("ca.pem"), &upstream.ca_pem).expect("the directory is writable");
        fs::write(directory.path().join("bondgate.toml"), configuration).expect("the directory is writable");
        let mut stand = Self {
            program: program.to_owned(),
            spool,
            directory,
            address,
            child: None,
            started: Duration::ZERO,
            rates: [Vec::new(), Vec::new()],
            refused: 0,
        };
        stand.start().await;
        if spool == Spool::Full {
            stand.stop().await;
            stand.retain();
            stand.start().await;
        }
        stand
    }

    /// Starts the program and pulls until it responds with a message.
    async fn start(&mut self) {
        let began = Instant::now();
        let child = Command::new(&self.program)
            .arg("run")
            .arg("--config")
            .arg(self.directory.path().join("bondgate.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .spawn();
        self.child = Some(child.expect("the program can be started"));
        while !matches!(pull(self.address).await, Ok(200)) {
            assert!(began.elapsed() < PATIENCE, "it does not start:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.started = began.elapsed();
    }

    /// Stops the program in order.
    async fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        // The shell's own kill: a machine need not have the program.
        let kill = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", child.id())])
            .status();
        assert!(
            kill.is_ok_and(|status| status.success()),
            "the signal can be sent"
        );
        let began = Instant::now();
        while child.try_wait().expect("it is ours").is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not stop:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Makes 100,000 retained messages of the one that was delivered: in the same folder, under the same name but for
    /// its time. Whatever layout the program has, that is where it keeps what was delivered.
    fn retain(&self) {
        let delivered = self.messages();
        let [delivered] = &delivered[..] else {
            panic!("one message was delivered and is retained, not {delivered:?}");
        };
        let name = delivered
            .file_name()
            .and_then(|name| name.to_str())
            .expect("it is plain");
        let start = digits(name).expect("it is a message");
        let time: u64 = name[start..start + DIGITS].parse().expect("they are digits");
        let mut content = Vec::new();
        let opened = fs::File::open(delivered).and_then(|mut file| file.read_to_end(&mut content));
        opened.expect("it can be read");
        for number in 1..=RETAINED {
            // A millisecond apart.
            let name = format!(
                "{}{:016}{}",
                &name[..start],
                time - number * 1000,
                &name[start + DIGITS..]
            );
            let file = create_private(&delivered.with_file_name(name));
            let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, &content));
            written.expect("the disk has room");
        }
    }

    /// The files of messages.
    fn messages(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.directory.path().join("spool")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                } else if entry.file_name().to_str().and_then(digits).is_some() {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Has so many callers pull for a while; pulls a second.
    async fn measure(&mut self, callers: usize) -> f64 {
        let (address, began) = (self.address, Instant::now());
        let mut pulling = JoinSet::new();
        for _ in 0..callers {
            pulling.spawn(async move {
                let (mut pulled, mut refused) = (0_u32, 0);
                while began.elapsed() < TIME {
                    match pull(address).await.expect("the daemon responds") {
                        200 => pulled += 1,
                        _ => refused += 1,
                    }
                }
                (pulled, refused)
            });
        }
        let pulled = pulling.join_all().await;
        let seconds = began.elapsed().as_secs_f64();
        self.refused += pulled.iter().map(|(_, refused)| refused).sum::<usize>();
        f64::from(pulled.iter().map(|(pulled, _)| pulled).sum::<u32>()) / seconds
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How many digits the time in a file's name has.
const DIGITS: usize = 16;

/// Where the time begins in the name of a message's file.
fn digits(name: &str) -> Option<usize> {
    let is_time = |window: &[u8]| window.iter().all(u8::is_ascii_digit);
    name.as_bytes().windows(DIGITS).position(is_time)
}

/// One pull on a connection of its own; its status.
async fn pull(address: SocketAddr) -> std::io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(PULL).await?;
    let mut response = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut response).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(length) = head_length(&response) else {
            continue;
        };
        let head = String::from_utf8_lossy(&response[..length]);
        if response.len() >= length + content_length(&head) {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return status.ok_or_else(|| std::io::ErrorKind::InvalidData.into());
        }
    }
}

fn main() {
    let mut programs: Vec<PathBuf> = std::env::args_os()
        .skip(1)
        // Cargo says --bench, whatever else is said.
        .filter(|argument| argument != "--bench")
        .map(PathBuf::from)
        .collect();
    if programs.is_empty() {
        let built = || env!("CARGO_BIN_EXE_bondgate").into();
        programs.push(
            std::env::var_os("BONDGATE_BENCH_PROGRAM")
                .unwrap_or_else(built)
                .into(),
        );
    }
    let upstream = Upstream::start();
    if !runtime().block_on(compare(&programs, &upstream)) {
        std::process::exit(1);
    }
}

/// Prints the rates; whether those of the last program hold.
async fn compare(programs: &[PathBuf], upstream: &Upstream) -> bool {
    let mut stands = Vec::new();
    for program in programs {
        for spool in SPOOLS {
            stands.push(Stand::new(program, spool, upstream).await);
        }
    }
    // The first round warms up.
    for round in 0..=ROUNDS {
        for stand in &mut stands {
            for (at, callers) in CALLERS.into_iter().enumerate() {
                let rate = stand.measure(callers).await;
                if round > 0 {
                    stand.rates[at].push(rate);
                }
            }
        }
    }
    let mut holds = true;
    println!(
        "{:<30} {:>14} {:>14} {:>10} {:>10} {:>10} {:>8} {:>9}",
        "spool", "pulls/s, 1", "pulls/s, 10", "ratio, 1", "ratio, 10", "start ms", "refused", "messages"
    );
    for (program, stands) in programs.iter().zip(stands.chunks(SPOOLS.len())) {
        println!("{}", program.display());
        let empty = &stands[1];
        for stand in stands {
            let ratios = [0, 1].map(|at| {
                let rounds = stand.rates[at].iter().zip(&empty.rates[at]);
                median(rounds.map(|(rate, empty)| rate / empty).collect())
            });
            let [one, ten] = stand.rates.clone().map(median);
            println!(
                "{:<30} {one:>14.1} {ten:>14.1} {:>10.2} {:>10.2} {:>10} {:>8} {:>9}",
                stand.spool.name(),
                ratios[0],
                ratios[1],
                stand.started.as_millis(),
                stand.refused,
                stand.messages().len(),
            );
            if stand.spool == Spool::Full {
                holds = ratios.iter().all(|ratio| *ratio >= LEAST);
            }
        }
    }
    println!(
        "{RETAINED} retained messages slow {} down by {} than a tenth",
        programs
            .last()
            .map_or("nothing".into(), |program| program.display().to_string()),
        if holds { "less" } else { "MORE" }
    );
    holds
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made")
}

/// Where a head that begins here ends, if it does.
fn head_length(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

fn content_length(head: &str) -> usize {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths
        .next()
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0)
}
