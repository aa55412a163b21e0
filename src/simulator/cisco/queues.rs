//! The messages that wait to be pulled, one queue per client.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

/// How many messages a client's queue holds; the oldest are dropped.
pub const QUEUE_KEPT: usize = 100_000;

/// The queues of all clients.
#[derive(Debug, Default)]
pub(crate) struct Queues(Mutex<HashMap<String, VecDeque<Bytes>>>);

impl Queues {
    pub(crate) fn put(&self, client: &str, message: Bytes) {
        let mut queues = self.lock();
        let queue = queues.entry(client.to_owned()).or_default();
        queue.push_back(message);
        if queue.len() > QUEUE_KEPT {
            queue.pop_front();
        }
    }

    /// Takes the oldest message for `client`.
    pub(super) fn take(&self, client: &str) -> Option<Bytes> {
        self.lock().get_mut(client)?.pop_front()
    }

    /// The messages for `client`, oldest first.
    pub(crate) fn list(&self, client: &str) -> Vec<Bytes> {
        self.lock().get(client).into_iter().flatten().cloned().collect()
    }

    /// How many messages are queued, for `client` or for all.
    pub(crate) fn len(&self, client: Option<&str>) -> usize {
        let queues = self.lock();
        let queues = queues
            .iter()
            .filter(|(owner, _)| client.is_none_or(|client| client == *owner));
        queues.map(|(_, queue)| queue.len()).sum()
    }

    /// Empties the queue of `client`, or every queue, and returns how many messages that were.
    pub(crate) fn clear(&self, client: Option<&str>) -> usize {
        let mut queues = self.lock();
        let of_client = queues
            .iter_mut()
            .filter(|(owner, _)| client.is_none_or(|client| client == *owner));
        of_client.map(|(_, queue)| queue.drain(..).count()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, VecDeque<Bytes>>> {
        self.0.lock().expect("no panic under this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_first_in_first_out_queue() {
        let queues = Queues::default();
        queues.put("a", Bytes::from_static(b"1"));
        queues.put("a", Bytes::from_static(b"2"));
        queues.put("b", Bytes::from_static(b"3"));
        assert_eq!(queues.len(None), 3);
        assert_eq!(queues.take("a").as_deref(), Some(&b"1"[..]));
        assert_eq!(queues.list("a"), [Bytes::from_static(b"2")]);
        assert_eq!(queues.clear(Some("a")), 1);
        assert_eq!(queues.take("a"), None);
        assert_eq!(queues.len(Some("b")), 1);
        assert_eq!(queues.take("unknown"), None);
    }
}
