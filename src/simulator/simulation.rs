//! The state of a simulated Cisco, and the [`Handle`] that tests and commands in the same process control it by.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::watch;

use super::cisco::endpoint::TOKEN_PATH;
use super::cisco::messages;
use super::cisco::queues::Queues;
use super::cisco::tokens::Tokens;
use super::fault::Fault;
use super::options::Options;
use super::record::{Record, Seen};

/// Controls a simulator and reads its record, before it runs and while it does.
pub type Handle = Arc<Simulation>;

/// A simulated Cisco.
#[derive(Debug)]
pub struct Simulation {
    pub(super) address: SocketAddr,
    pub(super) control: SocketAddr,
    pub(super) ca_pem: String,
    pub(super) options: Mutex<Options>,
    /// The issued tokens.
    pub tokens: Tokens,
    pub(super) queues: Queues,
    /// The faults to inject, in order.
    pub(super) faults: Mutex<Vec<Fault>>,
    pub(super) record: watch::Sender<Record>,
}

impl Simulation {
    /// The address of the simulated Cisco.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the API: `https://localhost:PORT`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The URL of the token endpoint.
    pub fn token_url(&self) -> String {
        self.url() + TOKEN_PATH
    }

    /// The URL of the control API, plain HTTP. `GET` it for help.
    pub fn control_url(&self) -> String {
        format!("http://{}", self.control)
    }

    /// The certificate authority that clients must trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Puts a message into a client's queue; a pull returns it byte for byte. It need not be JSON.
    pub fn put_raw_message(&self, client: &str, message: impl Into<Bytes>) {
        self.queues.put(client, message.into());
    }

    /// Puts `count` plausible updates into every client's queue.
    pub fn put_samples(&self, count: usize) {
        for client in &self.options().clients {
            for number in 0..count {
                let message = messages::sample(&client.id, number, SystemTime::now());
                self.put_raw_message(&client.id, message.to_string());
            }
        }
    }

    /// How many messages are queued, over all clients.
    pub fn queue_len(&self) -> usize {
        self.queues.len(None)
    }

    /// The options. Changed clients, token lifetime and behaviour apply from the next request on; tokens issued before
    /// stay valid.
    pub fn options(&self) -> MutexGuard<'_, Options> {
        self.options.lock().expect("no panic under this lock")
    }

    /// Adds a fault to the end of the script.
    pub fn script(&self, fault: Fault) {
        self.faults().push(fault);
    }

    /// The script: the faults that are still to be injected. A fault in progress continues when it is cleared.
    pub fn faults(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.faults.lock().expect("no panic under this lock")
    }

    /// The recorded requests, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.record.borrow().list.clone()
    }

    /// Empties the record; requests in progress do not return to it.
    pub fn forget_seen(&self) {
        self.record.send_modify(Record::clear);
    }

    /// Waits until `predicate` holds for the record, and returns the record. The predicate is called at each change,
    /// so it should be fast, and it must not use the handle.
    pub async fn wait_for(&self, mut predicate: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
        let mut changes = self.record.subscribe();
        let record = changes.wait_for(|record| predicate(&record.list)).await;
        record.expect("the sender lives in self").list.clone()
    }
}
