//! The way out through a corporate proxy: CONNECT, for the token and for the API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Instant;

use bondgate::simulator::Options;
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Setup, relayed, simulator};
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
                    let mut inside = TcpStream::connect(to).await.unwrap();
                    caller.say("HTTP/1.1 200 Connection established\r\n\r\n").await;
                    let _ = tokio::io::copy_bidirectional(&mut caller.into_stream(), &mut inside).await;
                });
            }
        });
        proxy
    }

    fn asked(&self) -> Vec<String> {
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

    for (says, word) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "403"),
    ] {
        let before = proxy.asked().len();
        proxy.says.lock().unwrap().push(says);
        let began = Instant::now();
        caller.say(GET).await;
        let answer = caller.message().await;
        answer.is_ours(503, word);
        assert!(answer.text().contains(word), "{answer:?}");
        assert_eq!(
            proxy.asked().len(),
            before + 1,
            "asked once, {:?}",
            began.elapsed()
        );
    }

    // What passes is waited out.
    *proxy.says.lock().unwrap() = vec!["HTTP/1.1 502 Bad Gateway\r\n\r\n"; 3];
    let before = proxy.asked().len();
    caller.say(GET).await;
    assert_eq!(caller.message().await.status(), 200);
    assert_eq!((proxy.asked().len(), relayed(&cisco).len()), (before + 4, 1));
    let connect = format!("CONNECT localhost:{} HTTP/1.1\r\n", cisco.address().port());
    for head in proxy.asked() {
        assert!(head.starts_with(&connect), "{head}");
        assert!(
            head.to_ascii_lowercase()
                .contains("proxy-authorization: basic dxnlcjpwyxnz\r\n"),
            "{head}"
        );
    }
}
