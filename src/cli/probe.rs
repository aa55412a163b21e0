//! `bondgate probe`: queries the admin listener, for a container's HEALTHCHECK and exec probes.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, ValueEnum};

use super::{ConfigArgs, Exit, load};
use crate::config::ListenAddress;

/// Query a running daemon's health; exit code 0 means live or ready
#[derive(Args)]
#[command(after_help = "For example in a Dockerfile: HEALTHCHECK CMD [\"/bondgate\", \"probe\", \"live\"]")]
pub(super) struct ProbeArgs {
    /// What to query
    #[arg(value_enum, default_value_t = Probe::Live)]
    probe: Probe,

    /// The admin listener's address; the configuration is not read [default: from the configuration]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<ListenAddress>,

    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Probe {
    /// /livez: the process responds
    Live,
    /// /readyz: callers may be sent here
    Ready,
}

/// Orchestrators abandon a probe after a few seconds themselves.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(args: ProbeArgs) -> anyhow::Result<Exit> {
    let address = if let Some(address) = args.address {
        address
    } else {
        let admin = load(args.config.file().as_deref())?.admin;
        ensure!(
            admin.tls.is_none(),
            "the admin listener uses TLS, which probe does not support"
        );
        admin.address
    };
    let path = match args.probe {
        Probe::Live => "/livez",
        Probe::Ready => "/readyz",
    };
    let response = query(&address, path).with_context(|| format!("no response from {address}"))?;
    let (head, body) = response
        .split_once("\r\n\r\n")
        .context("the response is not HTTP")?;
    print!("{body}");
    let is_ok = head.split(' ').nth(1) == Some("200");
    Ok(if is_ok { Exit::Done } else { Exit::Failed })
}

fn query(address: &ListenAddress, path: &str) -> anyhow::Result<String> {
    match address {
        ListenAddress::Localhost(port) => query_tcp((Ipv4Addr::LOCALHOST, *port).into(), path)
            .or_else(|_| query_tcp((Ipv6Addr::LOCALHOST, *port).into(), path)),
        ListenAddress::Socket(socket) => query_tcp(reachable(*socket), path),
        ListenAddress::Unix(file) => {
            let stream = UnixStream::connect(file)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            exchange(stream, path)
        }
        ListenAddress::Systemd(_) => bail!("only systemd knows the address: set it with --address"),
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

fn query_tcp(socket: SocketAddr, path: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect_timeout(&socket, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    exchange(stream, path)
}

fn exchange(mut stream: impl Read + Write, path: &str) -> anyhow::Result<String> {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut response = String::new();
    stream.take(64 << 10).read_to_string(&mut response)?;
    Ok(response)
}
