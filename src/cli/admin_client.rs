//! Queries the admin listener of a running daemon.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
};
use socket2::{Domain, SockAddr, Socket, Type};

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

/// A response of the admin listener.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: String,
}

/// As in `config/defaults.toml`.
const DEFAULT: ListenAddress = ListenAddress::Localhost(9180);
/// The limit for one query. Orchestrators abandon a probe after a few seconds themselves.
const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RESPONSE: u64 = 4 << 20;

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

    /// Gets a path.
    pub(super) fn get(&self, path: &str) -> Result<Response, Problem> {
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
            None => commands::not_reachable(&self.address, error, START_SERVICE),
        }
    }

    /// The problem of a response that another program sent.
    pub(super) fn not_status(&self) -> Problem {
        commands::not_bondgate(&self.address, "the response is another program's")
    }

    /// The problem of a response that is not the wanted document.
    pub(super) fn refused(&self, response: &Response) -> Problem {
        match response.status {
            403 if response.body.contains("urn:bondgate:problem:") => {
                commands::refuses(&self.address, response.status)
            }
            200 => self.not_status(),
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

fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<Response> {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut response = Vec::new();
    let read = stream.take(MAX_RESPONSE).read_to_end(&mut response);
    let response = String::from_utf8_lossy(&response);
    let parsed = response.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    match (parsed, read) {
        (Some((status, body)), _) => Ok(Response { status, body }),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the response is not HTTP",
        )),
    }
}

/// A socket whose reads and writes end at a deadline.
struct Limited {
    socket: Socket,
    deadline: Instant,
}

impl Limited {
    fn rest(&self) -> io::Result<Option<Duration>> {
        let rest = self.deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no response within 2 s"));
        }
        Ok(Some(rest))
    }
}

/// The system reports the end of a socket's timeout as "Resource temporarily unavailable".
fn late(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no response within 2 s"),
        _ => error,
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.rest()?)?;
        self.socket.read(buffer).map_err(late)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.rest()?)?;
        self.socket.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// TLS that trusts any certificate: the address is this machine's as a rule, and no secret is sent.
fn client_config(identity: Option<(&Path, &Path)>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has suites for every default version")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    let Some((certificate, key)) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let unreadable = |path: &Path| format!("cannot read {}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
    let chain = chain.with_context(|| unreadable(certificate))?;
    let key_der = PrivateKeyDer::from_pem_file(key).with_context(|| unreadable(key))?;
    builder
        .with_client_auth_cert(chain, key_der)
        .with_context(|| format!("{} cannot be used", certificate.display()))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
            };
            assert_eq!(client.refused(&response).code(), code);
        }
    }
}
