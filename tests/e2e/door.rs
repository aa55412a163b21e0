//! A port before the simulator that can be shut: the simulator behind it dies and comes back, and its record
//! survives.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// A port that leads to another, or refuses connections.
pub(crate) struct Door {
    /// Keeps the port while it is closed, so that no other program takes it.
    port: TcpSocket,
    to: SocketAddr,
    open: Mutex<JoinSet<()>>,
}

impl Door {
    pub(crate) fn to(to: SocketAddr) -> Self {
        let door = Self {
            port: bound(0),
            to,
            open: Mutex::default(),
        };
        door.open();
        door
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.local_addr().unwrap().port()
    }

    /// Listens.
    pub(crate) fn open(&self) {
        let (listener, to) = (bound(self.port()).listen(1024).unwrap(), self.to);
        self.open.lock().unwrap().spawn(async move {
            let mut passing = JoinSet::new();
            loop {
                let (mut caller, _) = listener.accept().await.unwrap();
                let _ = caller.set_nodelay(true);
                passing.spawn(async move {
                    let mut inside = TcpStream::connect(to).await.unwrap();
                    let _ = inside.set_nodelay(true);
                    let _ = tokio::io::copy_bidirectional(&mut caller, &mut inside).await;
                });
            }
        });
    }

    /// Refuses connections, and breaks those that there are.
    pub(crate) fn close(&self) {
        *self.open.lock().unwrap() = JoinSet::new();
    }
}

fn bound(port: u16) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, port).into()).unwrap();
    socket
}
