//! Where callers come in: addresses, access off loopback, sockets that systemd hands over.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use bondgate::simulator::{Handle, Options};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::confidential;
use crate::harness::{
    Answer, DEMO_SECRET, Daemon, PATIENCE, PULL, Setup, bondgate, finished, send, simulator,
};

pub(crate) fn pull() -> String {
    format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

pub(crate) fn setup(cisco: &Handle) -> Setup {
    Setup::new().upstream("cisco", cisco, "demo", DEMO_SECRET, "")
}

/// A pull over any connection.
pub(crate) async fn pulled(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<Answer> {
    stream.write_all(pull().as_bytes()).await?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("the answer ends")?;
    confidential::assert_clean(&answer);
    Ok(Answer(String::from_utf8_lossy(&answer).into_owned()))
}

/// A start that fails, to its end.
pub(crate) async fn start_fails(setup: Setup, environment: &[(&str, &str)]) -> crate::harness::Ended {
    let mut command = bondgate();
    command.args(["run", "--config"]).arg(setup.config_file());
    command.envs(environment.iter().copied());
    finished(command).await
}

#[tokio::test]
async fn localhost_is_both_loopback_addresses_and_nothing_else() {
    let cisco = simulator(Options::default()).await;
    let daemon = setup(&cisco).listener("localhost:0", "").start().await;
    let port = daemon.address().port();

    assert_eq!(daemon.get(PULL).await.status(), 200);
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
        let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert_eq!(send(v6, pull()).await.status(), 200);
    }
    assert!(TcpStream::connect(("127.0.0.2", port)).await.is_err());
}

#[tokio::test]
async fn an_ipv6_address_is_listened_on_where_the_machine_has_it() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let cisco = simulator(Options::default()).await;
    let daemon = setup(&cisco).listener("[::1]:0", "").start().await;
    assert!(daemon.address().is_ipv6());
    assert_eq!(daemon.get(PULL).await.status(), 200);
}

#[tokio::test]
async fn on_a_dual_stack_address_ipv4_callers_are_judged_as_ipv4() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return;
    }
    let cisco = simulator(Options::default()).await;
    for (allow, v4, v6) in [
        ("\"127.0.0.0/8\"", 200, 403),
        ("\"::1\"", 403, 200),
        ("\"::/0\"", 403, 200),
        ("\"::ffff:127.0.0.0/104\"", 200, 403),
        ("\"10.0.0.0/8\"", 403, 403),
    ] {
        let gate = format!("allow = [{allow}]");
        let daemon = setup(&cisco).listener("[::]:0", &gate).start().await;
        let port = daemon.address().port();
        let by_v4 = send(SocketAddr::from(([127, 0, 0, 1], port)), pull()).await;
        let by_v6 = send(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), pull()).await;
        assert_eq!((by_v4.status(), by_v6.status()), (v4, v6), "{allow}");
    }
    // A proxy that comes in by IPv4 is trusted by its IPv4 address.
    let gate = "allow = [\"10.20.0.0/16\"]\ntrusted_proxies = [\"127.0.0.1\"]";
    let daemon = setup(&cisco).listener("[::]:0", gate).start().await;
    let forwarded = pull().replace("\r\n\r\n", "\r\nX-Forwarded-For: ::ffff:10.20.0.1\r\n\r\n");
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.address().port()));
    assert_eq!(send(address, forwarded).await.status(), 200);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_the_ways_to_choose_another() {
    let cisco = simulator(Options::default()).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let both = [("BONDGATE_ADMIN", address.as_str())];
    let also = TcpListener::bind("127.0.0.1:0").unwrap();
    let also_address = also.local_addr().unwrap().to_string();
    let asked = [
        (
            setup(&cisco).listener(&address, ""),
            &[][..],
            &["[[listener]]", "BONDGATE_LISTEN"][..],
        ),
        (
            setup(&cisco).listener("127.0.0.1:0", ""),
            &both[..],
            &["[admin]", "BONDGATE_ADMIN"],
        ),
        (
            setup(&cisco).listener(&also_address, ""),
            &both[..],
            &["[admin]", "[[listener]]", &also_address],
        ),
    ];
    for (setup, environment, mends) in asked {
        let ended = start_fails(setup, environment).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let told = format!("{address} is in use by e2e");
        assert!(ended.stderr.contains(&told), "{ended:?}");
        for mend in mends {
            assert!(ended.stderr.contains(mend), "{mend}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn off_loopback_a_listener_without_a_gate_is_refused() {
    let cisco = simulator(Options::default()).await;
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8080"] {
        let ended = start_fails(setup(&cisco).listener(address, ""), &[]).await;
        assert_eq!(ended.code, Some(3), "{address}: {ended:?}");
        for mend in ["allow", "keys", "client_ca_file", "localhost"] {
            assert!(ended.stderr.contains(mend), "{mend}: {ended:?}");
        }
    }
    let admin = start_fails(
        setup(&cisco).listener("127.0.0.1:0", ""),
        &[("BONDGATE_ADMIN", "0.0.0.0:0")],
    )
    .await;
    assert_eq!(admin.code, Some(3), "{admin:?}");
    let gate = "allow = [\"127.0.0.0/8\"]";
    let daemon = setup(&cisco).listener("0.0.0.0:0", gate).start().await;
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.address().port()));
    assert_eq!(send(address, pull()).await.status(), 200);
}

/// The daemon as systemd starts it: the socket as descriptor 3, named in the environment.
pub(crate) fn activated(setup: Setup, socket: impl Into<OwnedFd>, name: &str) -> Daemon {
    let file = setup.config_file();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("exec 3<&0 </dev/null; LISTEN_PID=$$ exec \"$@\"")
        .arg("sh")
        .arg(Path::new(env!("CARGO_BIN_EXE_bondgate")))
        .args(["run", "--config"])
        .arg(file)
        .env_clear()
        .envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", name)])
        .envs(setup.environment.clone())
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::from(socket.into()));
    Daemon::spawn(command, setup.into_file())
}

#[tokio::test]
async fn a_socket_that_systemd_hands_over_is_served_and_outlives_the_daemon() {
    let cisco = simulator(Options::default()).await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    // A caller who came before the daemon waits in the backlog.
    let early = tokio::spawn(send(address, pull()));
    let ours = socket.try_clone().unwrap();
    let mut daemon = activated(setup(&cisco).listener("systemd:http", ""), socket, "http");
    daemon.logged("token acquired").await;

    assert_eq!(early.await.unwrap().status(), 200);
    assert_eq!(daemon.address(), address);
    assert_eq!(daemon.get(PULL).await.status(), 200);
    daemon
        .logged(&format!("\"listener\":\"systemd:http ({address})\""))
        .await;

    daemon.signal("TERM");
    assert_eq!(daemon.ended().await.code(), Some(0));
    let waiting = TcpStream::connect(address).await;
    assert!(waiting.is_ok(), "the next daemon will serve it");
    drop(ours);
}

#[tokio::test]
async fn a_socket_of_another_name_is_not_taken_and_the_mend_is_told() {
    let cisco = simulator(Options::default()).await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut daemon = activated(setup(&cisco).listener("systemd:http", ""), socket, "other");
    daemon.logged("FileDescriptorName=http").await;
    assert_eq!(daemon.ended().await.code(), Some(3));
}

#[tokio::test]
async fn what_systemd_hands_over_is_judged_by_the_address_that_it_has() {
    let cisco = simulator(Options::default()).await;
    let inherited = |more: &str| setup(&cisco).listener("systemd:http", more);
    let exposed = || TcpListener::bind("0.0.0.0:0").unwrap();

    let mut daemon = activated(inherited(""), exposed(), "http");
    daemon
        .logged("was handed over on an address that other machines can reach")
        .await;
    assert_eq!(daemon.ended().await.code(), Some(3));

    let mut daemon = activated(
        inherited("users = [0]"),
        TcpListener::bind("127.0.0.1:0").unwrap(),
        "http",
    );
    daemon.logged("token acquired").await;
    assert_eq!(daemon.get(PULL).await.status(), 403, "nobody is a user over TCP");

    let gate = "allow = [\"127.0.0.0/8\"]";
    for (more, is_warned) in [
        (gate, true),
        (&format!("{gate}\nrequire_header = \"X-A\""), false),
    ] {
        let mut daemon = activated(inherited(more), exposed(), "http");
        daemon.logged("token acquired").await;
        let warned = daemon
            .log()
            .iter()
            .any(|line| line.contains("listener[0].allow: is the only check"));
        assert_eq!(warned, is_warned, "{more}");
    }

    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let itself = format!("https://localhost:{}", socket.local_addr().unwrap().port());
    let looped = Setup::apart(&cisco, &itself, "", "");
    let looped = looped.relisten("systemd:http");
    let mut daemon = activated(looped, socket, "http");
    daemon
        .logged("upstream.cisco.url: leads back to bondgate itself")
        .await;
    assert_eq!(daemon.ended().await.code(), Some(3));
}
