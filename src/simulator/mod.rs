//! A stand-in for Cisco over real TLS, for people who build an integration and for this crate's tests.
//!
//! It is the identity service and the Smart Bonding API on one address, with a certificate authority of its own, made
//! at each start. It issues tokens to its clients, hands out messages, fails as its script of faults says, and
//! remembers what it saw. A second address takes orders over plain HTTP ([`Handle::control_url`] tells them), the
//! [`Handle`] takes the same in-process.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use bondgate::simulator::{Fault, Kind, On, Options, Simulator};
//!
//! let simulator = Simulator::bind(Options::default()).await?;
//! let cisco = simulator.handle();
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let running = tokio::spawn(simulator.run(async { drop(stopped.await) }));
//!
//! cisco.put_message(serde_json::json!({"Calls": {"CustCallID": "INC1"}}));
//! cisco.script(Fault::on(On::Pull, Kind::Reset).after_effect());
//! // … pull through what is under test, trusting cisco.ca_pem() …
//! let seen = cisco.wait_for(|seen| seen.iter().any(|request| request.abandoned)).await;
//! assert_eq!(cisco.queue_len(), 0, "the reset lost the message");
//! # drop((stop, running, seen));
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! `connection` and `tap` carry bytes, `answer` leads a request on its way, `identity` (with `form` and `tokens`),
//! `smart_bonding` (with `messages`) and `transfers` answer it, `faults` says what goes wrong and `strike` does it,
//! `record` remembers, `control` takes orders.

mod answer;
mod behaviour;
mod calendar;
mod certificate;
mod connection;
mod control;
mod faults;
mod form;
mod handle;
mod identity;
mod messages;
mod record;
mod redaction;
mod reply;
mod smart_bonding;
mod strike;
mod tap;
#[cfg(test)]
mod tests;
mod tokens;
mod transfers;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use behaviour::{
    BearerRejection, Behaviour, EmptyQueue, ExpiresIn, OlderTokens, Tenant, TokenReuse, UnknownClient,
};
pub use faults::{Fault, Kind, On, Then, Times};
pub use handle::Handle;
pub use identity::ClientAuth;
pub use record::{BODY_KEPT, BYTES_KEPT, ENTRIES_KEPT, Endpoint, Seen};
pub use smart_bonding::QUEUE_KEPT;
pub use tokens::{TOKEN_MARK, TOKENS_KEPT};
pub use transfers::{pattern, pattern_sha256};

use answer::Answerer;
use certificate::Certificate;
use connection::serve;
use faults::Script;
use record::Record;
use smart_bonding::Queues;
use tokens::Tokens;

/// How long accepting rests after it has failed, for want of file descriptors as a rule.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a simulator is set up with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it stands in for Cisco; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it takes orders, a loopback address.
    pub control: SocketAddr,
    /// Names that its certificate holds beside `localhost`, `127.0.0.1` and `::1`.
    pub names: Vec<String>,
    /// Whom it issues tokens to. The first one's queue is the default for messages.
    pub clients: Vec<Client>,
    /// How long a token is good.
    pub token_lifetime: Duration,
    /// How many times as fast as the machine's the clock runs by which tokens expire.
    pub clock_speed: u32,
    /// About how many bytes a token has; below 800 it is an opaque word instead of a JWT.
    pub token_bytes: usize,
    /// How it answers where more than one answer has been seen.
    pub behaviour: Behaviour,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            control: (Ipv4Addr::LOCALHOST, 0).into(),
            names: Vec::new(),
            clients: vec![Client {
                id: "demo".to_owned(),
                secret: "demo-secret".to_owned(),
            }],
            token_lifetime: Duration::from_secs(3599),
            clock_speed: 1,
            token_bytes: 1100,
            behaviour: Behaviour::default(),
        }
    }
}

/// Client credentials that the simulator accepts.
#[derive(Clone, PartialEq, Eq)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// The `client_secret`.
    pub secret: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A simulator that is bound and waits to run.
#[derive(Debug)]
pub struct Simulator {
    listener: TcpListener,
    control: TcpListener,
    certificate: Certificate,
    shared: Arc<Shared>,
}

impl Simulator {
    /// Makes the certificates and binds both addresses. An error names the address that cannot be had; a control
    /// address off loopback is one ([`io::ErrorKind::InvalidInput`]), since its callers are not asked who they are.
    pub async fn bind(options: Options) -> io::Result<Self> {
        if !options.control.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the control address {} is no loopback address: use 127.0.0.1 or [::1]",
                    options.control
                ),
            ));
        }
        let certificate = Certificate::new(&options.names)?;
        let listener = bound("address", options.listen).await?;
        let control = bound("control address", options.control).await?;
        let shared = Arc::new(Shared {
            address: listener.local_addr()?,
            control: control.local_addr()?,
            ca_pem: certificate.ca_pem.clone(),
            settings: Mutex::new(Settings {
                clients: options.clients,
                token_lifetime: options.token_lifetime,
                token_bytes: options.token_bytes,
                behaviour: options.behaviour,
            }),
            clock: Clock::new(options.clock_speed),
            tokens: Tokens::default(),
            queues: Queues::default(),
            faults: Script::default(),
            record: Arc::default(),
            tsp_codes: OnceLock::new(),
            reset: watch::Sender::new(0),
        });
        Ok(Simulator {
            listener,
            control,
            certificate,
            shared,
        })
    }

    /// The hand on the simulator, before it runs and while it does.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.shared))
    }

    /// Serves until `shutdown` resolves, and ends every connection then. Needs a runtime with I/O and time; the
    /// connections' tasks are spawned on it.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let tls = TlsAcceptor::from(Arc::clone(&self.certificate.server));
        let answerer = Arc::new(Answerer::new(Arc::clone(&self.shared)));
        let orders = control::router(Arc::clone(&self.shared));
        // Dropped with this future, the set ends what is in it too.
        let mut connections = JoinSet::new();
        let mut number = 0;
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                stream = accepted(&self.control) => {
                    connections.spawn(control::serve(stream, orders.clone()));
                }
                stream = accepted(&self.listener) => {
                    number += 1;
                    connections.spawn(serve(
                        stream,
                        number,
                        tls.clone(),
                        Arc::clone(&answerer),
                        self.shared.reset.subscribe(),
                    ));
                }
                Some(_) = connections.join_next() => {}
            }
        }
        connections.shutdown().await;
        Ok(())
    }
}

async fn bound(what: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "is taken by another program".to_owned(),
            _ => format!("cannot be listened on: {error}"),
        };
        io::Error::new(error.kind(), format!("the {what} {address} {why}"))
    })
}

/// The next connection; failures are waited out.
async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

/// What every part of a running simulator works on.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    control: SocketAddr,
    ca_pem: String,
    settings: Mutex<Settings>,
    clock: Clock,
    tokens: Tokens,
    queues: Queues,
    faults: Script,
    record: Arc<Record>,
    tsp_codes: OnceLock<Bytes>,
    /// Changes when every connection is to be reset.
    reset: watch::Sender<u64>,
}

impl Shared {
    fn settings(&self) -> Settings {
        locked(&self.settings).clone()
    }

    fn first_client(&self) -> Option<String> {
        let settings = locked(&self.settings);
        Some(settings.clients.first()?.id.clone())
    }
}

/// What can be changed while the simulator runs.
#[derive(Debug, Clone)]
struct Settings {
    clients: Vec<Client>,
    token_lifetime: Duration,
    token_bytes: usize,
    behaviour: Behaviour,
}

/// The time by which tokens expire; it can run faster and be put forward, so that nobody has to wait for an hour.
#[derive(Debug)]
struct Clock {
    began: Instant,
    speed: u32,
    ahead: Mutex<Duration>,
}

impl Clock {
    fn new(speed: u32) -> Self {
        Clock {
            began: Instant::now(),
            speed,
            ahead: Mutex::default(),
        }
    }

    fn now(&self) -> Instant {
        let now = self.began + self.began.elapsed() * self.speed;
        now.checked_add(*locked(&self.ahead)).unwrap_or(now)
    }

    fn advance(&self, by: Duration) {
        let mut ahead = locked(&self.ahead);
        *ahead = ahead.saturating_add(by);
    }
}

/// Locks even where a caller's predicate has panicked under the lock: what it guards is whole at every step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
