//! Binds a simulator's two addresses and serves them.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use axum::serve::Listener;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::cisco::queues::Queues;
use super::cisco::tokens::Tokens;
use super::options::Options;
use super::simulation::{Handle, Simulation};
use super::{certificate, cisco, connection, control};

/// A simulator that is bound and does not run yet.
#[derive(Debug)]
pub struct Simulator {
    listener: TcpListener,
    control: TcpListener,
    tls: ServerConfig,
    simulation: Handle,
}

impl Simulator {
    /// Generates the certificates and binds both addresses. An error names the address. The control address must be a
    /// loopback address ([`io::ErrorKind::InvalidInput`]), because its callers are not authenticated.
    pub async fn bind(options: Options) -> io::Result<Self> {
        let control = options.control;
        if !control.ip().is_loopback() {
            let text = format!("the control address {control} is not loopback: use 127.0.0.1 or [::1]");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let (tls, ca_pem) = certificate::generate(&options.names).map_err(io::Error::other)?;
        let listener = bind("address", options.listen).await?;
        let control = bind("control address", control).await?;
        let simulation = Arc::new(Simulation {
            address: listener.local_addr()?,
            control: control.local_addr()?,
            ca_pem,
            tokens: Tokens::new(options.clock_speed),
            options: Mutex::new(options),
            queues: Queues::default(),
            faults: Mutex::default(),
            record: watch::Sender::default(),
        });
        Ok(Simulator {
            listener,
            control,
            tls,
            simulation,
        })
    }

    /// The handle that controls the simulator, before it runs and while it does.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Arc::clone(&self.simulation)
    }

    /// Serves until `shutdown` resolves, then ends every connection to the simulated Cisco. Needs a runtime with I/O
    /// and time, and spawns the connections' tasks on it.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let tls = TlsAcceptor::from(Arc::new(self.tls));
        let cisco = cisco::router(Arc::clone(&self.simulation));
        let control = control::router(Arc::clone(&self.simulation));
        let mut control = pin!(axum::serve(self.control, control).into_future());
        // Dropped with this future, the set ends its tasks too.
        let mut connections = JoinSet::new();
        let mut number = 0;
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                ended = &mut control => return ended,
                (stream, _) = Listener::accept(&mut self.listener) => {
                    number += 1;
                    connections.spawn(connection::serve(stream, number, tls.clone(), cisco.clone()));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn bind(what: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let text = format!("the {what} {address} cannot be bound: {error}");
        io::Error::new(error.kind(), text)
    })
}
