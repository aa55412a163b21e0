//! What the daemon takes of memory, and of its callers' time, when there are thousands of them: figures, printed
//! and held to bounds. `.ci/soak` runs these, on a release build.

mod descriptors;
mod idle;
mod rollovers;
mod sleep;
mod slow;
mod streams;

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::{Daemon, Setup, bondgate};

const MIB: u64 = 1 << 20;

/// How many callers come from one address: few, since one caller may not take the last places.
const A_ADDRESS: usize = 100;

/// A daemon and a simulator, each in a process of its own: what loads the daemon must not be what is slow.
struct Stand {
    daemon: Daemon,
    /// Ends with the stand.
    _simulator: Daemon,
}

impl Stand {
    /// Starts both. `limits` is TOML of the daemon's table of that name.
    async fn start(limits: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca_file = directory.path().join("ca.pem");
        let mut command = bondgate();
        command
            .args(["simulate", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .args(["--client", "demo:demo-secret"])
            .arg("--ca-file")
            .arg(&ca_file);
        let mut simulator = Daemon::spawn(command, directory);
        simulator.logged("Ctrl-C ends it").await;
        let (url, token_url) = (told(&simulator, "  API "), told(&simulator, "  token URL "));

        let setup = Setup::new().listener("127.0.0.1:0", "").and(&format!(
            "[limits]\n{limits}\n[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"demo\"\n\
             client_secret = \"demo-secret\"\nurl = \"{url}\"\ntoken_url = \"{token_url}\"\nca_file = {ca_file:?}\n\
             rules = \"any\"\n",
        ));
        // A line for each request is none of the figures.
        let setup = setup.environment("BONDGATE_LOG", "info,bondgate::proxy::access_log=warn");
        let mut daemon = setup.start().await;
        daemon.logged("token acquired").await;
        Self {
            daemon,
            _simulator: simulator,
        }
    }

    /// A figure in the daemon's metrics.
    async fn metric(&self, name: &str) -> usize {
        let answer = self.daemon.ask("/metrics").await;
        let line = answer.body().lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} in {answer:?}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// How many requests are under way.
    async fn in_flight(&self) -> usize {
        self.metric("bondgate_requests_in_flight{").await
    }

    /// Waits until there are so many connections of callers.
    async fn has_connections(&self, wanted: usize) {
        // Whoever asks for the metrics is one, too.
        let others = async || self.metric("bondgate_connections ").await - 1;
        assert_eq!(
            settled(others, |count| *count == wanted).await,
            wanted,
            "connections"
        );
    }

    /// A value in KiB of the daemon's `/proc/PID/status`, in bytes.
    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }
}

/// What the simulator says at its start.
fn told(simulator: &Daemon, what: &str) -> String {
    let log = simulator.log();
    let line = log.iter().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

/// Connects as the caller of this number; where it is told, with room for so little that has come.
async fn called(to: SocketAddr, number: usize, room: Option<u32>) -> TcpStream {
    let address = u32::try_from(number / A_ADDRESS).unwrap();
    let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 1).to_bits() + address);
    let socket = TcpSocket::new_v4().unwrap();
    if let Some(room) = room {
        socket.set_recv_buffer_size(room).unwrap();
    }
    socket.bind((from, 0).into()).unwrap();
    let stream = socket.connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Does something for each number, some of them at once.
async fn each<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    numbers: Range<usize>,
    doing: impl Fn(usize) -> F,
) -> Vec<T> {
    const AT_ONCE: usize = 32;
    let (mut tasks, mut done) = (JoinSet::new(), Vec::new());
    for number in numbers {
        if tasks.len() == AT_ONCE {
            done.push(tasks.join_next().await.unwrap().unwrap());
        }
        tasks.spawn(doing(number));
    }
    done.extend(tasks.join_all().await);
    done
}

/// Looks at a figure until it is as wanted, for so long that it will not be any more; says what it was at last.
async fn settled<T>(mut look: impl AsyncFnMut() -> T, is_wanted: impl Fn(&T) -> bool) -> T {
    const BOUND: Duration = Duration::from_secs(5);
    let began = Instant::now();
    let mut pause = tokio::time::interval(Duration::from_millis(200));
    loop {
        pause.tick().await;
        let figure = look().await;
        if is_wanted(&figure) || began.elapsed() > BOUND {
            return figure;
        }
    }
}

/// Bytes as MiB, for people.
#[allow(clippy::cast_precision_loss)] // Nobody reads that many digits.
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB as f64)
}
