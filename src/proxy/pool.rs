//! A worker's idle connections to one upstream, the last used first.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::Link;

/// Connections that idle; cheap to clone.
#[derive(Clone)]
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    keep_alive: Duration,
    most: usize,
    idle: Mutex<Idle>,
    /// Tells one that waits of each that comes.
    returned: Notify,
}

#[derive(Default)]
struct Idle {
    /// The longest idle one first.
    links: Vec<(Link, Instant)>,
    is_swept: bool,
}

impl Pool {
    /// Keeps up to `most` connections for up to `keep_alive` each.
    pub(super) fn new(keep_alive: Duration, most: usize) -> Self {
        Self(Arc::new(Shared {
            keep_alive,
            most: if keep_alive.is_zero() { 0 } else { most },
            idle: Mutex::default(),
            returned: Notify::new(),
        }))
    }

    /// A connection that was open when it was last heard of, a moment ago.
    pub(super) fn take(&self) -> Option<Link> {
        loop {
            let (mut link, since) = self.0.idle().links.pop()?;
            if since.elapsed() < self.0.keep_alive && link.is_usable() {
                return Some(link);
            }
        }
    }

    /// Whether it keeps any.
    pub(super) fn keeps(&self) -> bool {
        self.0.most > 0
    }

    /// A connection as soon as there is one: a new one, or one that another request has done with.
    pub(super) async fn next(&self) -> Link {
        loop {
            self.0.returned.notified().await;
            if let Some(link) = self.take() {
                return link;
            }
        }
    }

    /// Keeps a connection that is ready for a request.
    pub(super) fn put(&self, link: Link) {
        let mut idle = self.0.idle();
        if idle.links.len() >= self.0.most {
            return link.close();
        }
        idle.links.push((link, Instant::now()));
        self.0.returned.notify_one();
        if !idle.is_swept {
            idle.is_swept = true;
            tokio::spawn(sweep(Arc::downgrade(&self.0), self.0.keep_alive));
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what has idled for too long, for as long as there is something.
async fn sweep(pool: Weak<Shared>, keep_alive: Duration) {
    let mut wait = keep_alive;
    loop {
        tokio::time::sleep(wait).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut idle = pool.idle();
        let now = Instant::now();
        let young = idle
            .links
            .partition_point(|(_, since)| *since + keep_alive <= now);
        idle.links.drain(..young).for_each(|(link, _)| link.close());
        let Some((_, since)) = idle.links.first() else {
            idle.is_swept = false;
            return;
        };
        wait = *since + keep_alive - now;
    }
}
