//! Stands between a client and the daemon, and remembers what the client sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::confidential::Search;

/// A relay that runs as long as the test's runtime. A close goes through; a reset becomes one.
pub(super) struct Wiretap {
    address: SocketAddr,
    heard: Heard,
}

/// What clients sent, a connection each.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

impl Wiretap {
    pub(super) async fn before(daemon: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Heard::default();
        let record = heard.clone();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let number = {
                    let mut heard = record.lock().unwrap();
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                tokio::spawn(relay(client, daemon, number, record.clone()));
            }
        });
        Self { address, heard }
    }

    /// Where clients connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections clients made.
    pub(super) fn connections(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// Every byte that clients sent.
    pub(super) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.heard.lock().unwrap().concat()).into_owned()
    }
}

async fn relay(client: TcpStream, daemon: SocketAddr, number: usize, heard: Heard) {
    let daemon = TcpStream::connect(daemon).await.unwrap();
    let (client_read, client_write) = client.into_split();
    let (daemon_read, daemon_write) = daemon.into_split();
    let up = copy(client_read, daemon_write, |bytes| {
        heard.lock().unwrap()[number].extend_from_slice(bytes);
    });
    let mut search = Search::default();
    let down = copy(daemon_read, client_write, |bytes| search.see(bytes));
    tokio::join!(up, down);
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut hear: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        hear(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
