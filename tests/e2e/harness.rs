//! What every test starts from: a simulator within the test, the daemon as a process beside it, and
//! plain sockets to both. Everything waits for events; nothing sleeps.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use bondgate::simulator::{Client, Endpoint, Handle, Options, Seen, Simulator};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::confidential;

pub(crate) const PULL: &str = "/sb-partner-oauth-proxy-api/rest/v1/pull/call";
pub(crate) const PUSH: &str = "/sb-partner-oauth-proxy-api/rest/v1/push/call";
pub(crate) const TSP_CODES: &str = "/sb-partner-oauth-proxy-api/tsp/api/v1/xylem/tspcodes";

/// Nothing here takes this long: a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The client secret of every test that has no reason for another: it is searched for wherever a daemon
/// says something.
pub(crate) const DEMO_SECRET: &str = "canary+4 &=%/\u{e4}";

/// A simulator that runs as long as the test's runtime.
pub(crate) async fn simulator(mut options: Options) -> Handle {
    if options.clients == Options::default().clients {
        options.clients = vec![Client {
            id: "demo".to_owned(),
            secret: DEMO_SECRET.to_owned(),
        }];
    }
    let simulator = Simulator::bind(options).await.unwrap();
    let handle = simulator.handle();
    tokio::spawn(simulator.run(std::future::pending()));
    handle
}

/// Taken by tests that load the machine, and by those whose tokens live for less than a second: one of
/// them at a time.
pub(crate) async fn heavy_or_hasty() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// What the simulator saw of callers' requests: all but the token requests.
pub(crate) fn relayed(simulator: &Handle) -> Vec<Seen> {
    let mut seen = simulator.seen();
    seen.retain(|seen| seen.endpoint != Endpoint::Token);
    seen
}

/// The daemon in a process of its own; ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: watch::Receiver<Vec<String>>,
    readers: Vec<JoinHandle<()>>,
    /// Files of this test.
    pub(crate) directory: TempDir,
}

/// How a daemon is started.
pub(crate) struct Setup {
    /// Files of this test.
    pub(crate) directory: TempDir,
    upstreams: String,
    listeners: String,
    rest: String,
    /// Variables of the daemon's environment.
    pub(crate) environment: Vec<(String, String)>,
}

impl Setup {
    /// A daemon with nothing configured but a free admin port and JSON logs.
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            upstreams: String::new(),
            listeners: String::new(),
            rest:
                "[admin]\naddress = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n[server]\nlame_duck = \"0s\"\n"
                    .to_owned(),
            environment: Vec::new(),
        }
    }

    /// One upstream "cisco" at the simulator, with the demo client, on one free port.
    pub(crate) fn at(simulator: &Handle) -> Self {
        Self::new()
            .upstream("cisco", simulator, "demo", DEMO_SECRET, "")
            .listener("127.0.0.1:0", "")
    }

    /// The same upstream with every request let through; `more` is further TOML of its table.
    pub(crate) fn open(simulator: &Handle, more: &str) -> Self {
        Self::apart(simulator, &simulator.url(), "", more)
    }

    /// The same with its API elsewhere than its tokens; `ca_pem` is trusted too.
    pub(crate) fn apart(simulator: &Handle, url: &str, ca_pem: &str, more: &str) -> Self {
        let mut setup = Self::new();
        confidential::keep(DEMO_SECRET);
        let ca_file = setup.file("ca.pem", &format!("{}{ca_pem}", simulator.ca_pem()));
        setup.upstreams = format!(
            "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"demo\"\n\
             client_secret = \"{DEMO_SECRET}\"\nurl = \"{url}\"\ntoken_url = \"{}\"\nca_file = {ca_file:?}\n{more}\n",
            simulator.token_url(),
        );
        if !more.contains("rules") {
            setup.upstreams += "rules = \"any\"\n";
        }
        setup.listener("127.0.0.1:0", "")
    }

    /// Adds an upstream at a simulator; `more` is further TOML of its table.
    pub(crate) fn upstream(
        mut self,
        name: &str,
        simulator: &Handle,
        id: &str,
        secret: &str,
        more: &str,
    ) -> Self {
        let ca_file = self.file(&format!("{name}-ca.pem"), simulator.ca_pem());
        confidential::keep(secret);
        let secret_file = self.file(&format!("{name}.secret"), secret);
        let preset = if more.contains("preset") {
            ""
        } else {
            "preset = \"smart-bonding-stage\"\n"
        };
        self.upstreams += &format!(
            "[upstream.{name}]\n{preset}client_id = \"{id}\"\nclient_secret = {{ file = {secret_file:?} }}\n\
             url = \"{}\"\ntoken_url = \"{}\"\nca_file = {ca_file:?}\n{more}\n",
            simulator.url(),
            simulator.token_url(),
        );
        self
    }

    /// Lets an upstream trust the certificates of these, too.
    pub(crate) fn and_trust(self, upstream: &str, simulators: &[&Handle]) -> Self {
        let pem: String = simulators.iter().map(|simulator| simulator.ca_pem()).collect();
        self.file(&format!("{upstream}-ca.pem"), &pem);
        self
    }

    /// Adds a listener; `more` is further TOML of its table.
    pub(crate) fn listener(mut self, address: &str, more: &str) -> Self {
        self.listeners += &format!("[[listener]]\naddress = \"{address}\"\n{more}\n");
        self
    }

    /// Has one listener alone, at this address.
    pub(crate) fn relisten(mut self, address: &str) -> Self {
        self.listeners.clear();
        self.listener(address, "")
    }

    /// Adds TOML at the end of the file.
    pub(crate) fn and(mut self, toml: &str) -> Self {
        self.rest += toml;
        self
    }

    /// Sets an environment variable of the daemon.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes a file of this test.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the daemon and waits until it has a token for each upstream.
    pub(crate) async fn start(self) -> Daemon {
        let upstreams = self.upstreams.matches("[upstream.").count();
        let mut daemon = self.start_without_token().await;
        daemon.logged_times("token acquired", upstreams).await;
        daemon
    }

    /// Starts the daemon and waits until it listens.
    pub(crate) async fn start_without_token(self) -> Daemon {
        let listeners = self.listeners.matches("[[listener]]").count();
        let mut daemon = self.spawn();
        daemon.logged_times("listening on", listeners).await;
        daemon
    }

    /// Starts the daemon and waits for nothing.
    pub(crate) fn spawn(self) -> Daemon {
        let mut command = bondgate();
        command.arg("run").arg("--config").arg(self.config_file());
        command.env("BONDGATE_LOG", EVERYTHING).envs(self.environment);
        Daemon::spawn(command, self.directory)
    }

    /// Writes the configuration file, and gives the directory of this test away.
    pub(crate) fn into_file(self) -> TempDir {
        self.config_file();
        self.directory
    }

    /// Writes the configuration file.
    pub(crate) fn config_file(&self) -> PathBuf {
        let text = format!("{}{}{}", self.upstreams, self.listeners, self.rest);
        self.file("bondgate.toml", &text)
    }
}

/// What is logged unless a test says otherwise: everything there is, to be searched for secrets.
const EVERYTHING: &str = "trace,hyper=trace";

/// The program with an environment of its own: the one that `BONDGATE_TEST_PROGRAM` names, else the one that was
/// built with the tests.
pub(crate) fn bondgate() -> Command {
    let built = env!("CARGO_BIN_EXE_bondgate").into();
    let mut command = Command::new(std::env::var_os("BONDGATE_TEST_PROGRAM").unwrap_or(built));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    command
}

/// What asks the program to stop: SIGTERM. The program for Windows, which `BONDGATE_TEST_WINDOWS` announces, has no such
/// signal, but Wine turns SIGINT into Ctrl-C.
pub(crate) fn stop_signal() -> &'static str {
    match std::env::var_os("BONDGATE_TEST_WINDOWS") {
        None => "TERM",
        Some(_) => "INT",
    }
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The lines of both: a check prints what it finds to standard output, a start that fails to standard error.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.stdout.lines().chain(self.stderr.lines())
    }
}

/// Runs a program to its end.
pub(crate) async fn finished(command: Command) -> Ended {
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = output.expect("the program ends").unwrap();
    confidential::assert_clean(&output.stdout);
    confidential::assert_clean(&output.stderr);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ended {
        code: output.status.code(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// Waits until the simulator has seen what is wanted.
pub(crate) async fn seen_when(simulator: &Handle, wanted: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
    let seen = tokio::time::timeout(PATIENCE, simulator.wait_for(wanted)).await;
    seen.expect("the simulator sees what is wanted")
}

impl Daemon {
    /// Starts a program that logs as the daemon does; its two outputs are one log here.
    pub(crate) fn spawn(mut command: Command, directory: TempDir) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = watch::channel(Vec::new());
        let readers = vec![
            follow(child.stderr.take().unwrap(), sender.clone()),
            follow(child.stdout.take().unwrap(), sender),
        ];
        Self {
            child,
            log,
            readers,
            directory,
        }
    }

    /// The address of the first listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses()[0]
    }

    /// The addresses of the TCP listeners, in the order of the file.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.places("listening on http://")
            .into_iter()
            .chain(self.places("listening on https://"))
            .collect()
    }

    /// The address of the admin listener.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.places("status, health and metrics are at http://")[0]
    }

    /// Every log line so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// Waits for a log line that holds `text`.
    pub(crate) async fn logged(&mut self, text: &str) {
        self.logged_times(text, 1).await;
    }

    /// Waits for so many log lines that hold `text`.
    pub(crate) async fn logged_times(&mut self, text: &str, times: usize) {
        let reached = self
            .log
            .wait_for(|log| log.iter().filter(|line| line.contains(text)).count() >= times);
        let is_reached = matches!(tokio::time::timeout(PATIENCE, reached).await, Ok(Ok(_)));
        assert!(
            is_reached,
            "the daemon did not log {text:?} {times} times:\n{}",
            self.log().join("\n")
        );
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, name: &str) {
        let name = if name == "TERM" { stop_signal() } else { name };
        // The shell's own kill: a machine need not have the program.
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        // The log ends with the process: its reader drops the sender.
        let closed = async { while self.log.changed().await.is_ok() {} };
        assert!(
            tokio::time::timeout(PATIENCE, closed).await.is_ok(),
            "the daemon did not end"
        );
        self.child.wait().unwrap()
    }

    /// The daemon's process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A whole answer to a plain GET, as text.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
        .await
    }

    /// The answer to raw bytes on a connection of their own, read to its end.
    pub(crate) async fn send(&self, request: impl AsRef<[u8]>) -> Answer {
        send(self.address(), request).await
    }

    /// A whole answer of the admin listener.
    pub(crate) async fn ask(&self, path: &str) -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        send(self.admin(), request).await
    }

    /// `/status.json`.
    pub(crate) async fn status(&self) -> Value {
        serde_json::from_str(self.ask("/status.json").await.body()).unwrap()
    }

    fn places(&self, before: &str) -> Vec<SocketAddr> {
        let log = self.log.borrow();
        let place = |line: &String| {
            let (_, after) = line.split_once(before)?;
            let text = after
                .split(['"', '/', ' '])
                .next()?
                .replace("localhost", "127.0.0.1");
            text.parse().ok()
        };
        log.iter().filter_map(place).collect()
    }
}

/// Appends a stream's lines to a log until it ends.
fn follow(stream: impl Read + Send + 'static, log: watch::Sender<Vec<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.send_modify(|log| log.push(line));
        }
    })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log().join("\n"));
        } else {
            confidential::assert_clean(self.log().join("\n").as_bytes());
        }
    }
}

/// An HTTP answer as it came.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) String);

impl Answer {
    /// The status code; 0 where there is none.
    pub(crate) fn status(&self) -> u16 {
        self.0
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(0)
    }

    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).first().copied()
    }

    /// Every value of a field, a line each.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// What follows the head.
    pub(crate) fn body(&self) -> &str {
        self.0.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// The answer to raw bytes on a connection of their own, read to its end.
pub(crate) async fn send(to: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let read = read.expect("the answer ends");
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    confidential::assert_clean(&answer);
    Answer(String::from_utf8_lossy(&answer).into_owned())
}

/// Reads exactly one answer with a Content-Length from a connection that stays open.
pub(crate) async fn read_one(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut answer = Vec::new();
    let whole = async {
        while !is_whole(&answer) {
            let mut byte = [0; 1];
            if stream.read(&mut byte).await.unwrap() == 0 {
                break;
            }
            answer.push(byte[0]);
        }
    };
    tokio::time::timeout(PATIENCE, whole)
        .await
        .expect("the answer comes");
    confidential::assert_clean(&answer);
    Answer(String::from_utf8_lossy(&answer).into_owned())
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let answer = Answer(format!("{head}\r\n\r\n"));
    let length = answer
        .field("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    body.len() >= length
}
