//! An API and its identity service that cost next to nothing: TLS, and answers that are there already.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Runs on a thread of its own for as long as the process.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// What its clients trust.
    pub(crate) ca_pem: String,
}

struct Answers {
    token: Vec<u8>,
    small: Vec<u8>,
    large: Vec<u8>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let names = vec!["localhost".to_owned()];
        let own = rcgen::generate_simple_self_signed(names).expect("a certificate can be made");
        let key = PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|tls| {
                tls.with_no_client_auth()
                    .with_single_cert(vec![own.cert.der().clone()], key)
            })
            .expect("the certificate has this key");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        listener.set_nonblocking(true).expect("a listener can be set so");
        let address = listener.local_addr().expect("it is bound");
        let serve = move || super::runtime().block_on(accept(listener, TlsAcceptor::from(Arc::new(tls))));
        let thread = std::thread::Builder::new().name("upstream".to_owned());
        thread.spawn(serve).expect("a thread can be started");
        Self {
            address,
            ca_pem: own.cert.pem(),
        }
    }
}

async fn accept(listener: std::net::TcpListener, tls: TlsAcceptor) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    // A token as long as Cisco's.
    let token = format!(
        r#"{{"access_token":"{}","token_type":"Bearer","expires_in":3599}}"#,
        "x".repeat(1100)
    );
    let answers = Arc::new(Answers {
        token: answer(token.as_bytes()),
        small: answer(&[b'x'; 1024]),
        large: answer(&vec![b'x'; 1024 * 1024]),
    });
    loop {
        let (stream, _) = listener.accept().await.expect("connections come");
        tokio::spawn(serve(stream, tls.clone(), answers.clone()));
    }
}

fn answer(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Answers one request after the other; a connection that fails is over.
async fn serve(stream: TcpStream, tls: TlsAcceptor, answers: Arc<Answers>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls.accept(stream).await?;
    let mut buffer = vec![0; 32 * 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let Some(length) = super::head_length(&buffer[..filled]) else {
            continue;
        };
        let head = String::from_utf8_lossy(&buffer[..length]);
        let answer = match head.split(' ').nth(1) {
            Some("/token") => &answers.token,
            Some("/1m") => &answers.large,
            _ => &answers.small,
        };
        let mut missing = (length + super::content_length(&head)).saturating_sub(filled);
        while missing > 0 {
            match stream.read(&mut buffer).await? {
                0 => return Ok(()),
                read => missing = missing.saturating_sub(read),
            }
        }
        filled = 0;
        stream.write_all(answer).await?;
        stream.flush().await?;
    }
}
