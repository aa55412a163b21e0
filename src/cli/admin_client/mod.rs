//! Queries the admin listener of a running daemon.

mod response;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, ClientConnection, StreamOwned};
use socket2::{Domain, SockAddr, Socket, Type};

pub(super) use self::response::Response;
use self::response::{Limited, exchange};
use self::tls::client_config;
use super::{ConfigArgs, first_process, load, output};
use crate::config::{Admin, ConfigError, ListenAddress};
use crate::platform::shell::START_SERVICE;
use crate::problems::{Problem, commands};

/// Which daemon to query.
#[derive(Args)]
pub(super) struct AdminArgs {
    /// The admin listener's address; the configuration is not read [default: from the configuration, else localhost:9180]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<ListenAddress>,

    /// The listener at --address has TLS. Its certificate is not verified
    #[arg(long, requires = "address")]
    tls: bool,

    /// A client certificate (PEM), for an admin listener with tls.client_ca_file
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,

    /// The client certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,

    #[command(flatten)]
    config: ConfigArgs,
}

/// A daemon's admin listener.
pub(super) struct AdminClient {
    address: ListenAddress,
    tls: Option<Arc<ClientConfig>>,
}

/// As in `config/defaults.toml`.
const DEFAULT: ListenAddress = ListenAddress::Localhost(9180);
/// The limit for one query. Orchestrators abandon a probe after a few seconds themselves.
const TIMEOUT: Duration = Duration::from_secs(2);

impl AdminArgs {
    /// The configuration file of the daemon: the given one, that of a container's first process, or the one that a start
    /// would read.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let given = self.config.config.clone();
        given
            .or_else(first_process::configuration)
            .or_else(|| self.config.clone().file())
    }

    /// Reads the configuration if `--address` is not given.
    pub(super) fn client(self) -> anyhow::Result<AdminClient> {
        let admin = match self.address {
            Some(_) => None,
            None => configured(self.file())?,
        };
        self.client_of(admin.as_ref())
    }

    /// For the listener of `--address`, else that of a configuration, else the default one.
    pub(super) fn client_of(self, admin: Option<&Admin>) -> anyhow::Result<AdminClient> {
        let (address, is_tls) = match (self.address, admin) {
            (Some(address), _) => (address, self.tls),
            (None, Some(admin)) => (admin.address.clone(), admin.tls.is_some()),
            (None, None) => (DEFAULT, false),
        };
        let identity = self.certificate.as_deref().zip(self.key.as_deref());
        let tls = is_tls.then(|| client_config(identity)).transpose()?;
        Ok(AdminClient {
            address,
            tls: tls.map(Arc::new),
        })
    }
}

/// The admin listener of the configuration; `None` for the default one. A daemon without a configuration is a demo.
fn configured(file: Option<PathBuf>) -> anyhow::Result<Option<Admin>> {
    match load(file.as_deref()) {
        Ok(config) => Ok(Some(config.admin)),
        Err(_) if file.is_none() => Ok(None),
        Err(ConfigError {
            config: Some(rest), ..
        }) => Ok(Some(rest.admin)),
        Err(error) if is_denied(&error) => {
            let file = file.unwrap_or_default();
            output::warning(&commands::configuration_unreadable(file.display(), &DEFAULT));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether this user may not read the file.
fn is_denied(error: &ConfigError) -> bool {
    error
        .faults
        .iter()
        .any(|fault| fault.problem.code() == "file-permission-denied")
}

impl AdminClient {
    /// For the admin listener of a configuration.
    pub(super) fn of(admin: &Admin) -> anyhow::Result<Self> {
        let tls = admin.tls.as_ref().map(|_| client_config(None)).transpose()?;
        Ok(Self {
            address: admin.address.clone(),
            tls: tls.map(Arc::new),
        })
    }

    /// Gets a path; an incomplete response is a problem.
    pub(super) fn get(&self, path: &str) -> Result<Response, Problem> {
        let response = self.get_part(path)?;
        match &response.incomplete {
            Some(reason) => Err(commands::response_incomplete(&self.address, reason)),
            None => Ok(response),
        }
    }

    /// Gets a path; the response may be incomplete.
    pub(super) fn get_part(&self, path: &str) -> Result<Response, Problem> {
        let mut failure = None;
        for address in self.addresses()? {
            match self.get_at(&address, path) {
                Ok(response) => return Ok(response),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(self.problem(&failure.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into())))
    }

    fn addresses(&self) -> Result<Vec<SockAddr>, Problem> {
        let local = |ip: IpAddr, port: u16| SockAddr::from(SocketAddr::from((ip, port)));
        Ok(match &self.address {
            ListenAddress::Localhost(port) => vec![
                local(Ipv4Addr::LOCALHOST.into(), *port),
                local(Ipv6Addr::LOCALHOST.into(), *port),
            ],
            ListenAddress::Socket(socket) => vec![reachable(*socket).into()],
            ListenAddress::Unix(path) => SockAddr::unix(path).into_iter().collect(),
            ListenAddress::Systemd(name) => return Err(commands::address_unknown(name)),
        })
    }

    fn get_at(&self, address: &SockAddr, path: &str) -> io::Result<Response> {
        let socket = Socket::new(Domain::from(i32::from(address.family())), Type::STREAM, None)?;
        let deadline = Instant::now() + TIMEOUT;
        socket.connect_timeout(address, TIMEOUT)?;
        let stream = Limited { socket, deadline };
        let Some(config) = &self.tls else {
            return exchange(stream, path);
        };
        let name = ServerName::try_from("localhost").expect("it is a name");
        let connection = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
        exchange(StreamOwned::new(connection, stream), path)
    }

    fn problem(&self, error: &io::Error) -> Problem {
        let source = error.get_ref().and_then(|error| error.downcast_ref());
        match source {
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
                commands::needs_certificate(&self.address)
            }
            Some(rustls::Error::InvalidMessage(_)) => {
                commands::not_bondgate(&self.address, "it does not speak TLS")
            }
            Some(_) => commands::not_bondgate(&self.address, "the TLS handshake failed"),
            None if error.kind() == io::ErrorKind::InvalidData => {
                commands::not_bondgate(&self.address, error)
            }
            None if error.kind() == io::ErrorKind::PermissionDenied
                && matches!(self.address, ListenAddress::Unix(_)) =>
            {
                commands::socket_denied(&self.address)
            }
            None => commands::not_reachable(&self.address, error, START_SERVICE),
        }
    }

    /// The problem of a response that another program sent.
    pub(super) fn not_bondgate(&self) -> Problem {
        commands::not_bondgate(&self.address, "the response is another program's")
    }

    /// The problem of a response that is not the wanted document.
    pub(super) fn refused(&self, response: &Response) -> Problem {
        match response.status {
            403 if response.body.contains("urn:bondgate:problem:") => {
                commands::refuses(&self.address, response.status)
            }
            200 => self.not_bondgate(),
            status => commands::not_bondgate(&self.address, format_args!("status {status}")),
        }
    }
}

/// A listener on every address is reached on loopback.
fn reachable(mut socket: SocketAddr) -> SocketAddr {
    match socket.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => socket.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => socket.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    socket
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn without_a_configuration_the_default_address_is_queried() {
        let text =
            "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n";
        assert_eq!(Config::parse(text, "f", []).unwrap().admin.address, DEFAULT);
    }

    #[test]
    fn a_unix_socket_that_denies_access_is_not_one_without_a_bondgate() {
        let problem = |address: &str, kind: io::ErrorKind| {
            let address = address.parse().unwrap();
            let client = AdminClient { address, tls: None };
            client.problem(&kind.into()).code()
        };
        let (denied, refused) = (io::ErrorKind::PermissionDenied, io::ErrorKind::ConnectionRefused);
        assert_eq!(problem("unix:/run/admin.sock", denied), "admin-socket-denied");
        assert_eq!(problem("unix:/run/admin.sock", refused), "daemon-not-reachable");
        // A packet filter denies, too.
        assert_eq!(problem("127.0.0.1:9180", denied), "daemon-not-reachable");
    }

    #[test]
    fn only_a_bondgate_refuses_as_one() {
        let client = AdminClient {
            address: DEFAULT,
            tls: None,
        };
        for (body, code) in [
            ("<h1>Forbidden</h1>", "admin-not-bondgate"),
            (
                "{\"type\":\"urn:bondgate:problem:caller-address-refused\"}",
                "admin-refuses-this-machine",
            ),
        ] {
            let response = Response {
                status: 403,
                body: body.to_owned(),
                incomplete: None,
            };
            assert_eq!(client.refused(&response).code(), code);
        }
    }
}
