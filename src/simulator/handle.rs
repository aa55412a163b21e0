//! The hand on a running simulator, for the tests and commands in the same process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::Value;

use super::identity::TOKEN_PATH;
use super::{Behaviour, Client, ExpiresIn, Fault, Seen, Shared, locked, messages};

/// Steers a simulator and asks what it saw. Clones steer the same one.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Handle { shared }
    }

    /// The address that it is bound to as Cisco.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Where it stands in for the API: `https://localhost:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.shared.address.port())
    }

    /// The token endpoint.
    #[must_use]
    pub fn token_url(&self) -> String {
        self.url() + TOKEN_PATH
    }

    /// Where it takes orders, over plain HTTP. `GET` it for help.
    #[must_use]
    pub fn control_url(&self) -> String {
        format!("http://{}", self.shared.control)
    }

    /// The certificate authority that its clients must trust.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.shared.ca_pem
    }

    /// Puts a message into the first client's queue.
    pub fn put_message(&self, message: Value) {
        let first = self.shared.first_client().unwrap_or_default();
        self.put_message_for(&first, message);
    }

    /// Puts a message into a client's queue.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json!({…})")]
    pub fn put_message_for(&self, client: &str, message: Value) {
        self.put_raw_message(client, message.to_string());
    }

    /// Puts a message into a client's queue that a pull will answer with byte for byte; it need not be JSON.
    pub fn put_raw_message(&self, client: &str, message: impl Into<Bytes>) {
        self.shared.queues.put(client, message.into());
    }

    /// Puts so many plausible updates into every client's queue.
    pub fn put_samples(&self, count: usize) {
        for client in self.shared.settings().clients {
            for number in 0..count {
                let message = messages::sample(&client.id, number, SystemTime::now());
                self.put_message_for(&client.id, message);
            }
        }
    }

    /// How many messages wait, over all clients.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.shared.queues.len(None)
    }

    /// How many messages wait for a client.
    #[must_use]
    pub fn queue_len_of(&self, client: &str) -> usize {
        self.shared.queues.len(Some(client))
    }

    /// Whom tokens are issued to from now on. Tokens that were issued stay good.
    pub fn set_clients(&self, clients: Vec<Client>) {
        locked(&self.shared.settings).clients = clients;
    }

    /// How long tokens issued from now on are good.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        locked(&self.shared.settings).token_lifetime = lifetime;
    }

    /// What token replies say of the lifetime from now on, be it true or not.
    pub fn set_expires_in(&self, expires_in: ExpiresIn) {
        locked(&self.shared.settings).behaviour.expires_in = expires_in;
    }

    /// How it answers now.
    #[must_use]
    pub fn behaviour(&self) -> Behaviour {
        self.shared.settings().behaviour
    }

    /// How it is to answer from now on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        locked(&self.shared.settings).behaviour = behaviour;
    }

    /// Revokes every token.
    pub fn revoke_all(&self) {
        self.shared.tokens.revoke(None);
    }

    /// Revokes a client's tokens.
    pub fn revoke(&self, client: &str) {
        self.shared.tokens.revoke(Some(client));
    }

    /// Puts the clock forward by which tokens expire.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
    }

    /// Adds a fault to the end of the script. A script holds 10,000 faults; beyond that they are left out.
    pub fn script(&self, fault: Fault) {
        self.shared.faults.add(fault);
    }

    /// The faults that have not struck yet.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.faults.list()
    }

    /// Empties the script. What has struck already goes on.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Resets every open connection, idle ones too.
    pub fn reset_connections(&self) {
        self.shared.reset.send_modify(|count| *count += 1);
    }

    /// What was seen so far, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.record.seen()
    }

    /// Forgets what was seen; a request that runs now is not seen any more.
    pub fn forget_seen(&self) {
        self.shared.record.forget();
    }

    /// Waits until `predicate` holds of what was seen, and returns that. It is asked at each change, so it should
    /// be quick; it must not use the handle.
    pub async fn wait_for(&self, predicate: impl FnMut(&[Seen]) -> bool) -> Vec<Seen> {
        self.shared.record.wait_for(predicate).await
    }

    /// The tokens that were issued, good or not, oldest first; no more than [`TOKENS_KEPT`](super::TOKENS_KEPT).
    #[must_use]
    pub fn issued_tokens(&self) -> Vec<String> {
        self.shared.tokens.issued()
    }

    /// How many tokens were issued.
    #[must_use]
    pub fn token_count(&self) -> usize {
        *self.shared.tokens.count().borrow()
    }

    /// Waits until so many tokens were issued.
    pub async fn wait_for_tokens(&self, count: usize) {
        let reached = self
            .shared
            .tokens
            .count()
            .wait_for(|issued| *issued >= count)
            .await
            .is_ok();
        debug_assert!(reached, "the sender lives as long as this handle");
    }

    /// How many requests came with a token that was unknown, expired or revoked.
    #[must_use]
    pub fn refused_tokens(&self) -> usize {
        self.shared.tokens.refused()
    }

    /// The most token requests that ever ran at once.
    #[must_use]
    pub fn max_concurrent_token_requests(&self) -> usize {
        self.shared.tokens.most_running()
    }
}
