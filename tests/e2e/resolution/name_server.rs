//! A name server in a test's own hands, and the network namespace in which it is the machine's.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::sync::watch;

use crate::harness::PATIENCE;

/// A name server that answers queries for A records; every other type of its names has no records.
pub(crate) struct NameServer {
    zone: Arc<Mutex<Zone>>,
    is_answering: watch::Sender<bool>,
    lookups: watch::Receiver<HashMap<String, usize>>,
}

type Zone = HashMap<&'static str, Ipv4Addr>;

/// Runs the test of this name in a network namespace of its own, with these name servers in `/etc/resolv.conf`, in the
/// order given. Returns false when that is done, and true inside of it: the test then goes on.
pub(crate) async fn in_namespace(test: &str, name_servers: &[Ipv4Addr]) -> bool {
    const INSIDE: &str = "BONDGATE_TEST_NAMESPACE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let directory = tempfile::tempdir().unwrap();
    let lines: Vec<_> = name_servers
        .iter()
        .map(|address| format!("nameserver {address}"))
        .collect();
    let file = |name: &str, content: &str| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let resolv_conf = file("resolv.conf", &(lines.join("\n") + "\n"));
    // The host's services for names are reached by unix sockets, which cross namespaces.
    let nsswitch = file("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
    let script = "mount --bind \"$1\" /etc/resolv.conf && mount --bind \"$2\" /etc/nsswitch.conf && \
                  ip link set lo up && shift 2 && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args(["sh", "-c", script, "sh"])
        .args([resolv_conf, nsswitch])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(INSIDE, test)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE * 4, command.output()).await;
    let output = ended.expect("the test ends").unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    println!("{stdout}");
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "{stdout}\n{stderr}"
    );
    false
}

/// A name server that is there and never answers: a closed port would be refused at once, which nobody waits for.
pub(crate) async fn silent_at(address: Ipv4Addr) -> NameServer {
    let server = NameServer::at(address, &[]).await;
    server.hold();
    server
}

impl NameServer {
    /// Serves these names at port 53 of an address. It answers at once, until it is told otherwise.
    pub(crate) async fn at(address: Ipv4Addr, names: &[(&'static str, Ipv4Addr)]) -> Self {
        let socket = UdpSocket::bind((address, 53)).await.unwrap();
        let zone: Arc<Mutex<Zone>> = Arc::new(Mutex::new(names.iter().copied().collect()));
        let (is_answering, answering) = watch::channel(true);
        let (counter, lookups) = watch::channel(HashMap::new());
        tokio::spawn(serve(socket, zone.clone(), answering, counter));
        Self {
            zone,
            is_answering,
            lookups,
        }
    }

    /// Changes the address of a name.
    pub(crate) fn set(&self, name: &'static str, address: Ipv4Addr) {
        self.zone.lock().unwrap().insert(name, address);
    }

    /// Keeps queries without an answer from now on.
    pub(crate) fn hold(&self) {
        self.is_answering.send_replace(false);
    }

    /// Answers what it kept, and everything that follows.
    pub(crate) fn release(&self) {
        self.is_answering.send_replace(true);
    }

    /// How often a name was looked up: queries from one socket are one lookup, sent again or not.
    pub(crate) fn lookups(&self, name: &str) -> usize {
        self.lookups.borrow().get(name).copied().unwrap_or(0)
    }

    /// Waits until a name has been looked up so many times.
    pub(crate) async fn looked_up(&self, name: &str, times: usize) {
        let mut lookups = self.lookups.clone();
        let reached = lookups.wait_for(|lookups| lookups.get(name).copied().unwrap_or(0) >= times);
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        reached.expect("the name is looked up").unwrap();
    }
}

async fn serve(
    socket: UdpSocket,
    zone: Arc<Mutex<Zone>>,
    mut answering: watch::Receiver<bool>,
    counter: watch::Sender<HashMap<String, usize>>,
) {
    let mut seen: HashSet<(String, SocketAddr)> = HashSet::new();
    let mut kept: Vec<(Query, SocketAddr)> = Vec::new();
    let mut packet = [0; 1500];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut packet) => {
                let Ok((length, from)) = received else { continue };
                let Some(query) = Query::parse(&packet[..length]) else { continue };
                if query.is_for_address && seen.insert((query.name.clone(), from)) {
                    counter.send_modify(|count| *count.entry(query.name.clone()).or_default() += 1);
                }
                kept.push((query, from));
            }
            Ok(()) = answering.changed() => {}
        }
        if !*answering.borrow_and_update() {
            continue;
        }
        for (query, to) in kept.drain(..) {
            let address = zone.lock().unwrap().get(query.name.as_str()).copied();
            let _ = socket.send_to(&query.answer(address), to).await;
        }
    }
}

/// A query with one question (RFC 1035 §4.1).
struct Query {
    id: [u8; 2],
    name: String,
    /// The question as it came.
    question: Vec<u8>,
    is_for_address: bool,
}

impl Query {
    fn parse(packet: &[u8]) -> Option<Self> {
        let (header, rest) = packet.split_at_checked(12)?;
        let (mut name, mut at) = (String::new(), 0);
        loop {
            let length = usize::from(*rest.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(std::str::from_utf8(rest.get(at..at + length)?).ok()?);
            at += length;
        }
        let question = rest.get(..at + 4)?.to_vec();
        Some(Self {
            id: [header[0], header[1]],
            name: name.to_ascii_lowercase(),
            is_for_address: question[at..at + 2] == [0, 1],
            question,
        })
    }

    /// A name without an address does not exist.
    fn answer(&self, address: Option<Ipv4Addr>) -> Vec<u8> {
        let record = address.filter(|_| self.is_for_address);
        let code = if address.is_some() { 0 } else { 3 };
        let mut packet = self.id.to_vec();
        packet.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(record.is_some()), 0, 0, 0, 0]);
        packet.extend(&self.question);
        if let Some(address) = record {
            // The name of the question, type A, class IN, no time to live, four bytes.
            packet.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            packet.extend(address.octets());
        }
        packet
    }
}
