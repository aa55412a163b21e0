//! Where calls go: to the configured hosts, by the configured way, and nowhere else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bondgate::simulator::{Fault, Handle, Kind, On, Options};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{DEMO_SECRET, PULL, Setup, relayed, simulator};

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

fn redirect(code: u16, to: &str) -> Kind {
    Kind::Status {
        code,
        headers: vec![("location".to_owned(), to.to_owned())],
        body: String::new(),
    }
}

#[tokio::test]
async fn a_redirect_of_the_identity_service_is_not_followed_with_the_secret() {
    let elsewhere = simulator(Options::default()).await;
    let mut setup = Setup::new();
    let mut keep = Vec::new();
    for code in REDIRECTS {
        for shape in ["form", "query", "basic"] {
            let cisco = simulator(Options::default()).await;
            cisco.script(Fault::on(On::Token, redirect(code, &elsewhere.token_url())).forever());
            let name = format!("{shape}{code}");
            setup = setup
                .upstream(
                    &name,
                    &cisco,
                    "demo",
                    DEMO_SECRET,
                    &format!("client_auth = \"{shape}\""),
                )
                .listener("127.0.0.1:0", &format!("upstream = \"{name}\""));
            // What is followed would be followed over TLS that is trusted.
            setup = setup.and_trust(&name, &[&cisco, &elsewhere]);
            keep.push(cisco);
        }
    }
    let mut daemon = setup.start_without_token().await;
    daemon.logged_times("no valid token", keep.len()).await;
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
}

#[tokio::test]
async fn a_redirect_of_the_api_is_the_callers_and_is_not_followed_with_the_token() {
    let (cisco, elsewhere) = (
        simulator(Options::default()).await,
        simulator(Options::default()).await,
    );
    let daemon = Setup::apart(&cisco, &cisco.url(), elsewhere.ca_pem(), "")
        .start()
        .await;
    for code in REDIRECTS {
        let to = format!("{}{PULL}", elsewhere.url());
        cisco.script(Fault::on(On::Any, redirect(code, &to)));
        let answer = daemon.get(PULL).await;
        assert_eq!(
            (answer.status(), answer.field("location")),
            (code, Some(to.as_str()))
        );
    }
    assert_eq!(relayed(&cisco).len(), REDIRECTS.len());
    assert!(elsewhere.seen().is_empty());
}

/// A proxy that opens tunnels, and notes what it is asked.
struct Tunnels {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = heads.clone();
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(tunnel(caller, noted.clone()));
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn tunnel(mut caller: TcpStream, noted: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match caller.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let authority = head.split(' ').nth(1).unwrap_or_default().to_owned();
    noted.lock().unwrap().push(head);
    let mut upstream = TcpStream::connect(authority).await.unwrap();
    caller.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut caller, &mut upstream).await;
}

const VARIABLES: [&str; 6] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

/// A daemon in an environment that names this proxy in every way there is; `more` is of its upstream.
fn in_corporate_network(cisco: &Handle, proxy: &Tunnels, more: &str) -> Setup {
    let mut setup = Setup::new()
        .upstream("cisco", cisco, "demo", DEMO_SECRET, more)
        .listener("127.0.0.1:0", "");
    for name in VARIABLES {
        setup = setup.environment(name, &format!("http://{}", proxy.address));
    }
    setup
}

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used_unasked_and_a_warning_says_so() {
    let (cisco, proxy) = (simulator(Options::default()).await, Tunnels::open().await);
    let mut daemon = in_corporate_network(&cisco, &proxy, "").start().await;
    assert_eq!(daemon.get(PULL).await.status(), 200);
    daemon.logged("HTTPS_PROXY of the environment is not used").await;
    assert_eq!(proxy.heads(), Vec::<String>::new(), "neither call went there");
}

#[tokio::test]
async fn the_configured_proxy_takes_both_calls_and_sees_neither_token_nor_secret() {
    let cisco = simulator(Options::default()).await;
    let authority = cisco.url().replace("https://", "");
    for is_named in [true, false] {
        let (proxy, other) = (Tunnels::open().await, Tunnels::open().await);
        let setup = if is_named {
            let url = format!("proxy = \"http://user:password@{}\"", proxy.address);
            in_corporate_network(&cisco, &other, &url)
        } else {
            in_corporate_network(&cisco, &proxy, "proxy = \"environment\"")
        };
        let daemon = setup.start().await;
        assert_eq!(daemon.get(PULL).await.status(), 200);
        let heads = proxy.heads();
        assert_eq!(heads.len(), 2, "the token call and the API call: {heads:?}");
        for head in heads {
            assert!(
                head.starts_with(&format!("CONNECT {authority} HTTP/1.1\r\n")),
                "{head}"
            );
            let head = head.to_ascii_lowercase();
            assert!(!head.contains("bearer"), "{head}");
            assert_eq!(head.contains("proxy-authorization: basic "), is_named, "{head}");
        }
        assert!(other.heads().is_empty());
    }
}
