//! Failures of an outbound proxy.

use super::*;

/// An outbound proxy that says these bytes to CONNECT, each time.
async fn proxy_that_says(bytes: &'static [u8]) -> String {
    let address = serve(move |mut stream| async move {
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(bytes).await;
        if bytes.is_empty() {
            let _ = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut [0; 4096])).await;
        }
    });
    address.await.to_string()
}

#[tokio::test]
async fn each_failure_of_an_outbound_proxy_is_named_in_each_place() {
    let mut all: Vec<(String, Injection)> = Vec::new();
    let refusals: [(&str, &'static str, &'static [u8], &str); 10] = [
        ("no login", "proxy-auth-needed", b"HTTP/1.1 407 P\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", ""),
        ("wrong login", "proxy-auth-refused", b"HTTP/1.1 407 P\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n", "u:wrong@"),
        ("NTLM", "proxy-auth-ntlm-only", b"HTTP/1.1 407 P\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n", ""),
        ("NTLM with login", "proxy-auth-ntlm-only", b"HTTP/1.1 407 P\r\nProxy-Authenticate: Negotiate, NTLM\r\nContent-Length: 0\r\n\r\n", "u:p@"),
        ("forbidden", "proxy-host-forbidden", b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", ""),
        ("bad gateway", "proxy-cannot-reach", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", ""),
        ("redirect", "proxy-redirects", b"HTTP/1.1 302 Found\r\nLocation: https://login.corp/?u=x\r\nContent-Length: 0\r\n\r\n", ""),
        ("no HTTP", "proxy-not-http", b"\x05\x00 SOCKS\r\n\r\n", ""),
        ("silent", "proxy-silent", b"", ""),
        ("closed", "proxy-closed", b"HTTP/1.1 200", ""),
    ];
    for (name, code, bytes, login) in refusals {
        let login = login.to_owned();
        all.push((
            name.to_owned(),
            Box::pin(async move {
                let more = format!(
                    "proxy = \"http://{login}{}\"\n{NO_WAIT}",
                    proxy_that_says(bytes).await
                );
                let cisco = simulator(Options::default()).await;
                let setup = Setup::open(&cisco, &more);
                Injected {
                    setup,
                    call: Call::Token,
                    code,
                    has_response: true,
                    _alive: vec![cisco],
                }
            }),
        ));
    }
    all.push((
        "nobody".to_owned(),
        Box::pin(async move {
            let cisco = simulator(Options::default()).await;
            let setup = Setup::open(&cisco, &format!("proxy = \"http://127.0.0.1:1\"\n{NO_WAIT}"));
            Injected {
                setup,
                call: Call::Token,
                code: "proxy-unreachable",
                has_response: true,
                _alive: vec![cisco],
            }
        }),
    ));
    assert_each_is_reported(all).await;
}

#[tokio::test]
async fn a_login_is_sent_once_to_a_proxy_that_offers_no_basic() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counter = logins.clone();
    let proxy = serve(move |mut stream| {
        let counter = counter.clone();
        async move {
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
            counter.fetch_add(head.matches("proxy-authorization").count(), Ordering::Relaxed);
            let refusal = "HTTP/1.1 407 P\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(refusal.as_bytes()).await;
        }
    });
    let proxy = format!("proxy = \"http://u:p@{}\"", proxy.await);
    let cisco = simulator(Options::default()).await;
    assert_eq!(
        checked_codes(&Setup::open(&cisco, &proxy)).await,
        ["proxy-auth-ntlm-only"]
    );
    assert_eq!(logins.swap(0, Ordering::Relaxed), 1);
    let mut daemon = Setup::open(&cisco, &proxy).start_without_token().await;
    daemon.logged("\"problem\":\"proxy-auth-ntlm-only\"").await;
    assert_eq!(logins.load(Ordering::Relaxed), 1);
}
