//! `bondgate probe`: asks the admin listener, for a container's HEALTHCHECK and exec probes.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::{ConfigArgs, Exit, load};
use crate::config::ListenAddress;

/// Ask a running daemon whether it lives or is ready; exit code 0 means yes
#[derive(Args)]
#[command(after_help = "For example in a Dockerfile: HEALTHCHECK CMD [\"/bondgate\", \"probe\", \"live\"]")]
pub(super) struct ProbeArgs {
    /// What to ask
    #[arg(value_enum, default_value_t = Question::Live)]
    question: Question,

    /// Ask at this address, and read no configuration (default: the admin listener of the configuration)
    #[arg(long, value_name = "ADDRESS")]
    address: Option<ListenAddress>,

    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Question {
    /// /livez: the process answers
    Live,
    /// /readyz: callers can be sent here
    Ready,
}

/// Probers give up after a second or two themselves.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn run(args: ProbeArgs) -> anyhow::Result<Exit> {
    let address = match args.address {
        Some(address) => address,
        None => match load(args.config.file().as_deref()) {
            Ok(config) if config.admin.tls.is_some() => {
                bail!("the admin listener speaks TLS, which probe does not")
            }
            Ok(config) => config.admin.address,
            Err(exit) => return Ok(exit),
        },
    };
    let path = match args.question {
        Question::Live => "/livez",
        Question::Ready => "/readyz",
    };
    let (is_yes, text) = ask(&address, path).with_context(|| format!("no answer from {address}"))?;
    print!("{text}");
    Ok(if is_yes { Exit::Done } else { Exit::Failed })
}

fn ask(address: &ListenAddress, path: &str) -> anyhow::Result<(bool, String)> {
    match address {
        ListenAddress::Localhost(port) => tcp((Ipv4Addr::LOCALHOST, *port).into(), path)
            .or_else(|_| tcp((Ipv6Addr::LOCALHOST, *port).into(), path)),
        ListenAddress::Socket(socket) => tcp(reachable(*socket), path),
        ListenAddress::Unix(file) => {
            let stream = UnixStream::connect(file)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            exchange(stream, path)
        }
        ListenAddress::Systemd(_) => bail!("systemd knows the address: name it with --address"),
    }
}

/// Where something listens on every address, this machine's own is asked.
fn reachable(socket: SocketAddr) -> SocketAddr {
    let ip = match socket.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, socket.port())
}

fn tcp(socket: SocketAddr, path: &str) -> anyhow::Result<(bool, String)> {
    let stream = TcpStream::connect_timeout(&socket, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, path)
}

fn exchange(mut stream: impl Read + Write, path: &str) -> anyhow::Result<(bool, String)> {
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    Ok((head.split(' ').nth(1) == Some("200"), body.to_owned()))
}
