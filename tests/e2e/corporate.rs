//! The way out through a corporate proxy: CONNECT, for the token and for the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use bondgate::simulator::Options;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{DEMO_SECRET, Setup, relayed, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::Caller;

const GET: &str = "GET /simulator/echo HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// A proxy that tunnels, or says what it is told to instead.
pub(crate) struct Corporate {
    pub(crate) address: SocketAddr,
    /// What it says instead of tunnelling, each once.
    says: Arc<Mutex<Vec<&'static str>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Corporate {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            says: Arc::default(),
            asked: Arc::default(),
        };
        let (says, asked) = (proxy.says.clone(), proxy.asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (says, asked) = (says.clone(), asked.clone());
                tokio::spawn(async move {
                    let mut caller = Caller::new(stream);
                    let head = caller.head().await.0;
                    let to = head.split(' ').nth(1).unwrap().to_owned();
                    asked.lock().unwrap().push(head);
                    let said = says.lock().unwrap().pop();
                    if let Some(said) = said {
                        caller.say(said).await;
                        return;
                    }
                    let mut inside = TcpStream::connect(to.replace(".:", ":")).await.unwrap();
                    caller.say("HTTP/1.1 200 Connection established\r\n\r\n").await;
                    let _ = tokio::io::copy_bidirectional(&mut caller.into_stream(), &mut inside).await;
                });
            }
        });
        proxy
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn token_and_api_go_through_the_proxy_whose_refusal_is_told_at_once() {
    let cisco = simulator(Options::default()).await;
    let proxy = Corporate::start().await;
    let way = format!("proxy = \"http://user:pass@{}\"", proxy.address);
    let daemon = Setup::open(&cisco, &way).start().await;
    let mut caller = Caller::to(daemon.address()).await;

    let refuse = async |caller: &mut Caller, says: &'static str, code: &str| {
        let before = proxy.asked().len();
        proxy.says.lock().unwrap().push(says);
        let began = Instant::now();
        caller.say(GET).await;
        let answer = caller.message().await;
        answer.is_ours(503, says);
        assert!(
            answer.text().contains(&format!("urn:bondgate:problem:{code}\"")),
            "{answer:?}"
        );
        assert_eq!(
            proxy.asked().len(),
            before + 1,
            "asked once, {:?}",
            began.elapsed()
        );
    };
    refuse(
        &mut caller,
        "HTTP/1.1 403 Forbidden\r\n\r\n",
        "proxy-host-forbidden",
    )
    .await;

    // A login that was refused is not sent again: accounts are locked after some failures.
    refuse(
        &mut caller,
        "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        "proxy-auth-refused",
    )
    .await;
    let ntlm = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n";
    refuse(&mut caller, ntlm, "proxy-auth-ntlm-only").await;
    let last = proxy.asked().pop().unwrap();
    assert!(
        !last.to_ascii_lowercase().contains("proxy-authorization"),
        "{last}"
    );

    // What passes is waited out.
    *proxy.says.lock().unwrap() = vec!["HTTP/1.1 502 Bad Gateway\r\n\r\n"; 3];
    let before = proxy.asked().len();
    caller.say(GET).await;
    assert_eq!(caller.message().await.status(), 200);
    assert_eq!((proxy.asked().len(), relayed(&cisco).len()), (before + 4, 1));
    let connect = format!("CONNECT localhost:{} HTTP/1.1\r\n", cisco.address().port());
    // The token request, then two API requests with the login.
    for (number, head) in proxy.asked().into_iter().enumerate() {
        assert!(head.starts_with(&connect), "{head}");
        let login = "proxy-authorization: basic dxnlcjpwyxnz\r\n";
        assert_eq!(
            head.to_ascii_lowercase().contains(login),
            number < 3,
            "{number} {head}"
        );
    }
}

#[tokio::test]
async fn a_dot_at_the_end_of_a_name_in_a_url_is_neither_in_host_nor_in_sni() {
    let (cisco, upstream) = (simulator(Options::default()).await, RawUpstream::bind().await);
    let proxy = Corporate::start().await;
    let setup = Setup::new().listener("127.0.0.1:0", "");
    let ca_file = setup.file("ca.pem", &format!("{}{}", cisco.ca_pem(), upstream.ca_pem));
    let secret = setup.file("secret", DEMO_SECRET);
    let port = upstream.address().port();
    let dotted = |url: String| url.replace("localhost", "localhost.");
    let daemon = setup
        .and(&format!(
            "[upstream.cisco]\npreset = \"none\"\nurl = \"{}\"\ntoken_url = \"{}\"\nclient_id = \"demo\"\n\
             client_secret = {{ file = {secret:?} }}\nca_file = {ca_file:?}\nproxy = \"http://{}\"\nrules = \"any\"\n",
            dotted(upstream.url()),
            dotted(cisco.token_url()),
            proxy.address,
        ))
        .start_without_token()
        .await;
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(GET).await;
    let mut line = upstream.accept().await;
    let request = line.message().await;
    assert_eq!(request.field("host"), Some(format!("localhost:{port}").as_str()));
    line.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(caller.message().await.text(), "ok");
    assert_eq!(line.into_stream().get_ref().1.server_name(), Some("localhost"));
    let port = cisco.address().port();
    assert_eq!(cisco.seen()[0].header("host"), [format!("localhost:{port}")]);
}
