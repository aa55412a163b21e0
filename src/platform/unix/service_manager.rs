//! Reports the daemon's state to the service manager by systemd's protocol, sd_notify(3).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager that started the process; by default there is none.
///
/// sd-notify has the messages and the watchdog's variables, but not the socket: the crate waits for a slow manager,
/// does not know abstract addresses, and connects for each message, which a sandbox may forbid by then.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Connects to the service manager that the environment names. Without it the daemon serves, too.
    #[must_use]
    pub fn from_environment() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET");
        address.map_or_else(Self::default, |address| {
            Self::at(&address, sd_notify::watchdog_enabled())
        })
    }

    fn at(address: &OsStr, watchdog: Option<Duration>) -> Self {
        let socket = connect(address);
        if let Err(error) = &socket {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be reached, systemd will not know bondgate's state");
        }
        let watchdog = watchdog.filter(|limit| socket.is_ok() && !limit.is_zero());
        let socket = socket.ok();
        Self { socket, watchdog }
    }

    /// Callers are served, after a start or a reload.
    pub fn ready(&self) {
        self.notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    /// A reload has begun; [`ready`](Self::ready) ends it, whether or not it succeeded.
    pub fn reloading(&self) {
        let status = NotifyState::Status("reloading the configuration");
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            self.notify(&[NotifyState::Reloading, now, status]);
        }
    }

    /// A stop has begun.
    pub fn stopping(&self) {
        let status = NotifyState::Status("finishing running requests");
        self.notify(&[NotifyState::Stopping, status]);
    }

    /// The daemon is alive.
    pub fn ping_watchdog(&self) {
        self.notify(&[NotifyState::Watchdog]);
    }

    /// How often to ping the watchdog, if it is enabled: twice within its limit.
    #[must_use]
    pub fn ping_interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    fn notify(&self, states: &[NotifyState<'_>]) {
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(lines.join("\n").as_bytes())
        {
            tracing::debug!(%error, "the service manager cannot be notified");
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> (UnixDatagram, tempfile::TempDir, ServiceManager) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager::at(path.as_os_str(), Some(Duration::from_secs(30)));
        (socket, directory, manager)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_state_is_sent_in_a_datagram() {
        let (socket, _directory, manager) = manager();
        manager.ready();
        assert_eq!(received(&socket), "READY=1\nSTATUS=serving");
        manager.reloading();
        let message = received(&socket);
        let micros = message
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(message.starts_with("RELOADING=1\n"), "{message}");
        assert!(micros.unwrap().parse::<u64>().unwrap() > 0, "{message}");
        manager.stopping();
        assert!(received(&socket).starts_with("STOPPING=1\n"));
        manager.ping_watchdog();
        assert_eq!(received(&socket), "WATCHDOG=1");
    }

    #[test]
    fn the_watchdog_is_pinged_twice_within_its_limit() {
        let (_socket, directory, manager) = manager();
        assert_eq!(manager.ping_interval(), Some(Duration::from_secs(15)));
        let path = directory.path().join("notify");
        let interval = |limit| ServiceManager::at(path.as_os_str(), limit).ping_interval();
        assert_eq!((interval(None), interval(Some(Duration::ZERO))), (None, None));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_abstract_socket_works_too() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("bondgate-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        ServiceManager::at(OsStr::new(&format!("@{name}")), None).ready();
        assert!(received(&socket).starts_with("READY=1"));
    }

    #[test]
    fn a_manager_that_cannot_be_reached_is_no_error() {
        for address in ["/nowhere/at/all", "vsock:2:9", ""] {
            let manager = ServiceManager::at(OsStr::new(address), Some(Duration::from_secs(1)));
            manager.ready();
            assert_eq!(manager.ping_interval(), None);
        }
        ServiceManager::default().stopping();
    }
}
