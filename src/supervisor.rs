//! Tells whoever supervises the daemon how it is, by systemd's protocol (sd_notify(3)): ready, reloading,
//! stopping, and alive as long as its workers are.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Who started the daemon and wants to know; nobody by default.
///
/// The socket is connected once, at the start: no file is opened when something is told, in whatever sandbox
/// the daemon is by then.
#[derive(Debug, Default)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

/// What is found in the environment (sd_notify(3), sd_watchdog_enabled(3)).
const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

impl Supervisor {
    /// The one that the environment names. One that cannot be reached is told of in the log, and does not keep
    /// the daemon from serving.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(address) = variable(SOCKET) else {
            return Self::default();
        };
        let socket = match connected(&address) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "{SOCKET} cannot be reached: systemd will not know how bondgate is");
                return Self::default();
            }
        };
        let number = |name| variable(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        let is_ours = number(WATCHDOG_PROCESS).is_none_or(|process| process == u64::from(std::process::id()));
        let watchdog = number(WATCHDOG).filter(|micros| *micros > 0 && is_ours);
        Self {
            socket: Some(socket),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// Callers are served, after a start or a reload.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// The configuration is read again; [`ready`](Self::ready) says when that is done, be it taken or not.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration again"
        ));
    }

    /// A stop has begun.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what is under way");
    }

    /// The daemon lives.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// How often to say [`alive`](Self::alive), where that is wanted: twice in the time after which silence is
    /// taken for death.
    #[must_use]
    pub fn every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(what.as_bytes())
        {
            tracing::debug!(%error, "the supervisor does not listen");
        }
    }
}

fn connected(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    // Whoever supervises must not be waited for.
    socket.set_nonblocking(true)?;
    match address.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        [b'/', ..] => socket.connect(address)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    }
    Ok(socket)
}

/// The workers' signs of life.
#[derive(Debug, Default)]
pub struct Pulses(Vec<(Arc<AtomicU64>, u64)>);

/// One worker's signs of life, given on its own runtime: one that stands still gives none.
#[derive(Debug)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulses {
    /// Those of one worker more.
    pub fn add(&mut self) -> Pulse {
        let beats = Arc::new(AtomicU64::new(0));
        self.0.push((beats.clone(), 0));
        Pulse(beats)
    }

    /// Whether every worker has given one since the last time; those that have ended need not.
    pub fn are_all_there(&mut self) -> bool {
        let mut are_there = true;
        for (beats, last) in &mut self.0 {
            let now = beats.load(Ordering::Relaxed);
            let has_ended = Arc::strong_count(beats) == 1;
            are_there &= has_ended || now != *last;
            *last = now;
        }
        are_there
    }
}

impl Pulse {
    /// Gives signs of life for as long as it is polled.
    pub async fn beat(self, every: Duration) {
        loop {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listener {
        socket: UnixDatagram,
        _directory: Option<tempfile::TempDir>,
        variables: Vec<(&'static str, OsString)>,
    }

    fn listener() -> Listener {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        Listener {
            socket: UnixDatagram::bind(&path).unwrap(),
            _directory: Some(directory),
            variables: vec![(SOCKET, path.into())],
        }
    }

    impl Listener {
        fn supervisor(&self) -> Supervisor {
            Supervisor::of(|wanted| {
                let mut variables = self.variables.iter();
                let found = variables.find(|(name, _)| *name == wanted)?;
                Some(found.1.clone())
            })
        }

        fn heard(&self) -> String {
            let mut room = [0; 256];
            let length = self.socket.recv(&mut room).unwrap();
            String::from_utf8(room[..length].to_vec()).unwrap()
        }
    }

    #[test]
    fn each_state_is_told_in_a_datagram() {
        let listener = listener();
        let supervisor = listener.supervisor();
        supervisor.ready();
        assert_eq!(listener.heard(), "READY=1\nSTATUS=serving");
        supervisor.reloading();
        let told = listener.heard();
        let micros = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(told.starts_with("RELOADING=1\n"), "{told}");
        assert!(micros.unwrap().parse::<u64>().unwrap() > 0, "{told}");
        supervisor.stopping();
        assert!(listener.heard().starts_with("STOPPING=1\n"));
        supervisor.alive();
        assert_eq!(listener.heard(), "WATCHDOG=1");
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let every = |variables: &[(&'static str, &str)]| {
            let mut listener = listener();
            let variables = variables.iter().map(|(name, value)| (*name, value.into()));
            listener.variables.extend(variables);
            listener.supervisor().every()
        };
        let own = std::process::id().to_string();
        assert_eq!(every(&[]), None);
        assert_eq!(every(&[(WATCHDOG, "30000000")]), Some(Duration::from_secs(15)));
        assert_eq!(
            every(&[(WATCHDOG, "30000000"), (WATCHDOG_PROCESS, &own)]),
            Some(Duration::from_secs(15))
        );
        assert_eq!(every(&[(WATCHDOG, "30000000"), (WATCHDOG_PROCESS, "1")]), None);
        assert_eq!(every(&[(WATCHDOG, "0")]), None);
        assert_eq!(every(&[(WATCHDOG, "soon")]), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_socket_is_found_too() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("bondgate-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = Listener {
            socket: UnixDatagram::bind_addr(&address).unwrap(),
            _directory: None,
            variables: vec![(SOCKET, format!("@{name}").into())],
        };
        listener.supervisor().ready();
        assert!(listener.heard().starts_with("READY=1"));
    }

    #[test]
    fn nobody_there_is_no_fault() {
        for address in ["/nowhere/at/all", "vsock:2:9", ""] {
            let supervisor = Supervisor::of(|name| (name == SOCKET).then(|| address.into()));
            supervisor.ready();
            assert_eq!(supervisor.every(), None);
        }
        Supervisor::default().stopping();
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_stands_still_is_missed_and_one_that_has_ended_is_not() {
        let mut pulses = Pulses::default();
        let every = Duration::from_secs(1);
        let beating = tokio::spawn(pulses.add().beat(every));
        let ending = tokio::spawn(pulses.add().beat(every));
        tokio::time::sleep(every).await;
        assert!(pulses.are_all_there());
        ending.abort();
        assert!(ending.await.is_err());
        tokio::time::sleep(every * 2).await;
        assert!(pulses.are_all_there());

        let still = pulses.add();
        assert!(!pulses.are_all_there());
        drop(still);
        tokio::time::sleep(every * 2).await;
        assert!(pulses.are_all_there());
        assert!(!pulses.are_all_there(), "nothing since the last time");
        beating.abort();
    }
}
