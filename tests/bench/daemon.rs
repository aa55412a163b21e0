//! The daemon in front of the bench's upstream: as a process of its own, whose time is its alone, or on
//! threads of this one, where its allocations can be counted.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bondgate::config::Config;
use bondgate::daemon::{self, Outcome, Signal};
use bondgate::telemetry;
use bondgate::token::Clock;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::upstream::Upstream;

/// What it is configured with. Each request is logged with a line, as it is where nobody says otherwise.
struct Files {
    directory: TempDir,
}

impl Files {
    /// A configuration with so many upstreams, which are all the same one, and a listener for each.
    fn new(upstream: &Upstream, upstreams: usize) -> Self {
        let files = Self {
            directory: tempfile::tempdir().expect("a directory can be made"),
        };
        let (ca_file, log_file) = (files.path("ca.pem"), files.path("log"));
        let url = format!("https://localhost:{}", upstream.address.port());
        let mut config = format!(
            "[admin]\naddress = \"127.0.0.1:0\"\n[server]\nlame_duck = \"0s\"\n[log]\nfile = \"{}\"\n",
            log_file.display()
        );
        for number in 0..upstreams {
            let _ = write!(
                config,
                "[upstream.bench-{number}]\npreset = \"none\"\nurl = \"{url}\"\ntoken_url = \"{url}/token\"\n\
                 client_id = \"bench\"\nclient_secret = \"bench\"\nrules = \"any\"\nca_file = \"{}\"\n\
                 [[listener]]\naddress = \"127.0.0.1:0\"\nupstream = \"bench-{number}\"\n",
                ca_file.display()
            );
        }
        fs::write(ca_file, &upstream.ca_pem).expect("the directory is writable");
        fs::write(log_file, "").expect("the directory is writable");
        fs::write(files.path("bondgate.toml"), config).expect("the directory is writable");
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the daemon listens, once it has said so, and has its tokens.
    fn addresses(&self, upstreams: usize) -> Vec<SocketAddr> {
        let began = Instant::now();
        loop {
            let log = fs::read_to_string(self.path("log")).expect("the log is there");
            let addresses: Vec<_> = log.split("listening on http://").skip(1).map(address).collect();
            if addresses.len() == upstreams && log.matches("token acquired").count() == upstreams {
                return addresses;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "the daemon does not start:\n{log}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The address that a line of the log goes on with.
fn address(line: &str) -> SocketAddr {
    let end = line.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    let address = &line[..end.unwrap_or(line.len())];
    address.parse().expect("it listens on an address")
}

/// The program; ended when dropped.
pub(crate) struct Process {
    child: Child,
    /// One for each upstream.
    pub(crate) addresses: Vec<SocketAddr>,
    _files: Files,
}

impl Process {
    pub(crate) fn start(upstream: &Upstream, upstreams: usize) -> Self {
        let files = Files::new(upstream, upstreams);
        let built = || env!("CARGO_BIN_EXE_bondgate").into();
        let program = std::env::var_os("BONDGATE_BENCH_PROGRAM").unwrap_or_else(built);
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(files.path("bondgate.toml"))
            .env_clear()
            .stdin(Stdio::null())
            .spawn()
            .expect("the program can be started");
        let addresses = files.addresses(upstreams);
        Self {
            child,
            addresses,
            _files: files,
        }
    }

    /// The processor time that its threads have taken so far, in microseconds.
    pub(crate) fn cpu(&self) -> f64 {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks = fs::read_dir(tasks).expect("the daemon runs");
        let nanoseconds = |task: std::io::Result<fs::DirEntry>| {
            let times = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<f64>().ok()
        };
        tasks.filter_map(nanoseconds).sum::<f64>() / 1000.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon with one worker in this process; stopped when dropped. There can be one: it logs for the process.
pub(crate) struct Inside {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Outcome>>,
    _files: Files,
}

impl Inside {
    pub(crate) fn start(upstream: &Upstream) -> Self {
        let files = Files::new(upstream, 1);
        let mut config = Config::load(Some(&files.path("bondgate.toml")), []).expect("it is a configuration");
        config.server.workers = 1;
        telemetry::init(&config.log).expect("the log can be written");
        let (stop, stopped) = oneshot::channel();
        let run = move || {
            let mut stopped = Some(stopped);
            let daemon = daemon::Daemon::bind(config, &Clock::default()).expect("there are free ports");
            let outcome = super::runtime().block_on(daemon.run(async || next_signal(&mut stopped).await));
            outcome.expect("it runs to its end")
        };
        let thread = std::thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(run).expect("a thread can be started");
        let address = files.addresses(1)[0];
        Self {
            address,
            stop: Some(stop),
            thread: Some(thread),
            _files: files,
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

/// A signal to stop, once.
async fn next_signal(stopped: &mut Option<oneshot::Receiver<()>>) -> Signal {
    match stopped.take() {
        Some(stopped) => drop(stopped.await),
        None => std::future::pending().await,
    }
    Signal::Stop
}
