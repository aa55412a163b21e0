//! A simulator of Cisco over real TLS, for people who build an integration and for this crate's tests.
//!
//! One address serves the identity service and the Smart Bonding API, with a certificate authority that is generated
//! at each start. The simulator issues tokens to its clients, queues messages, injects faults from a script, and
//! records the requests. A second address serves the control API over plain HTTP ([`Simulation::control_url`]); the
//! [`Handle`] does the same in the process.
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
//! cisco.put_raw_message("demo", r#"{"Calls": {"CustCallID": "INC1"}}"#);
//! cisco.script(Fault::on(On::Pull, Kind::Reset).after_effect());
//! // … pull through the program under test, which trusts cisco.ca_pem() …
//! let seen = cisco.wait_for(|seen| seen.iter().any(|request| request.abandoned)).await;
//! assert_eq!(cisco.queue_len(), 0, "the reset lost the message");
//! # drop((stop, running, seen));
//! # Ok(())
//! # }
//! ```
//!
//! # Layout
//!
//! `server` accepts connections and `connection` serves each: TLS, a wire recorder, hyper. Then a request passes the
//! layers and routes of `cisco`: it is an `exchange` that is entered in the `record`, meets a `fault` if the script has
//! one, and reaches its handler. `control` is the control API, `simulation` the state behind everything.

mod certificate;
mod cisco;
mod connection;
mod control;
mod exchange;
mod fault;
mod options;
mod record;
mod server;
mod simulation;
#[cfg(test)]
mod tests;

pub use cisco::endpoint::Endpoint;
pub use cisco::queues::QUEUE_KEPT;
pub use cisco::tokens::{TOKEN_MARK, TOKENS_KEPT, Tokens};
pub use cisco::transfers::{pattern, pattern_sha256};
pub use fault::{Fault, Kind, On, Then, Times};
pub use options::{
    BearerRejection, Client, EmptyQueue, ExpiresIn, OlderTokens, Options, TokenReuse, UnknownClient,
};
pub use record::{BODY_KEPT, BYTES_KEPT, ClientAuth, ENTRIES_KEPT, Seen};
pub use server::Simulator;
pub use simulation::{Handle, Simulation};
