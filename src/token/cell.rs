//! The place of one upstream's token: an arc-swap cell that requests read without a lock, and a
//! watch on what the refresher is doing, for those that find it empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::{AccessToken, FetchErrorKind};

/// What the token engine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// No token yet.
    Starting,
    /// A good token, and nothing to do.
    Fresh,
    /// A good token, and its successor is being fetched.
    Refreshing,
    /// The last fetch failed; the token still serves.
    Degraded,
    /// No usable token, and fetching fails.
    Expired,
    /// The credentials are missing or refused: somebody has to mend something.
    Misconfigured,
}

impl TokenState {
    /// Every state's name.
    pub const NAMES: [&'static str; 6] = [
        "starting",
        "fresh",
        "refreshing",
        "degraded",
        "expired",
        "misconfigured",
    ];

    /// The name in status, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What the refresher last said of itself.
#[derive(Clone, Debug)]
pub struct TokenStatus {
    /// What it is doing.
    pub state: TokenState,
    /// Since when.
    pub since: SystemTime,
    /// The last failure, until a fetch succeeds.
    pub last_error: Option<LastError>,
    /// When the next fetch begins; nothing while one runs.
    pub next_attempt: Option<Instant>,
    /// When the newest token expires.
    pub expires: Option<SystemTime>,
    /// A fetch runs, and the one before it did not fail: a request may wait for it.
    pub is_hopeful: bool,
}

/// A failed fetch, as status shows it.
#[derive(Clone, Debug)]
pub struct LastError {
    /// Its kind.
    pub kind: FetchErrorKind,
    /// What happened and how to mend it; holds no secret.
    pub message: String,
    /// When.
    pub at: SystemTime,
}

/// There is no token to send; nothing was executed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no access token: {reason}")]
pub struct Unavailable {
    /// Why, for the caller; holds no secret.
    pub reason: String,
    /// When to come again.
    pub retry_after: Duration,
}

/// The refresher's half.
pub struct TokenWriter {
    shared: Arc<Shared>,
    status: watch::Sender<TokenStatus>,
}

/// A request's half; cheap to clone.
#[derive(Clone)]
pub struct TokenReader {
    shared: Arc<Shared>,
    status: watch::Receiver<TokenStatus>,
}

struct Shared {
    token: ArcSwapOption<AccessToken>,
    /// The serial of the newest token that the upstream refused.
    rejected: AtomicU64,
    /// Rung when a request has something to say of the token.
    word: Notify,
}

impl Shared {
    fn is_spent(&self) -> bool {
        let newest = self.token.load();
        newest.as_ref().is_some_and(|token| {
            token.is_expired() || self.rejected.load(Ordering::Acquire) == token.serial()
        })
    }
}

/// An empty place, as two halves.
#[must_use]
pub fn cell() -> (TokenWriter, TokenReader) {
    let shared = Arc::new(Shared {
        token: ArcSwapOption::empty(),
        rejected: AtomicU64::new(0),
        word: Notify::new(),
    });
    let (sender, receiver) = watch::channel(TokenStatus {
        state: TokenState::Starting,
        since: SystemTime::now(),
        last_error: None,
        next_attempt: None,
        expires: None,
        is_hopeful: true,
    });
    (
        TokenWriter {
            shared: shared.clone(),
            status: sender,
        },
        TokenReader {
            shared,
            status: receiver,
        },
    )
}

impl TokenWriter {
    /// Puts a new token in force.
    pub fn store(&self, token: AccessToken) {
        self.shared.token.store(Some(Arc::new(token)));
    }

    /// The token in force, expired or not.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<AccessToken>> {
        self.shared.token.load_full()
    }

    /// Resolves when the token in force is of no more use: the upstream refused it, or a request
    /// found it expired (by the wall clock, after a suspend or a step). Cancel safe.
    pub async fn spent(&self) {
        while !self.shared.is_spent() {
            self.shared.word.notified().await;
        }
    }

    /// Tells readers what the refresher is doing. Told after [`store`](Self::store), so that who
    /// wakes finds the token.
    pub fn tell(&self, status: TokenStatus) {
        self.status.send_replace(status);
    }

    /// What was told last.
    #[must_use]
    pub fn told(&self) -> TokenStatus {
        self.status.borrow().clone()
    }
}

impl TokenReader {
    /// The token to send now, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<AccessToken>> {
        self.shared.token.load_full().filter(|token| !token.is_expired())
    }

    /// The token to send, waiting at most `limit` while a fetch runs that is likely to bring one.
    pub async fn wait(&self, limit: Duration) -> Result<Arc<AccessToken>, Unavailable> {
        self.wait_for(limit, |_| true).await
    }

    /// A token newer than one that the upstream refused, waiting at most `limit` for it.
    pub async fn newer(&self, than: &AccessToken, limit: Duration) -> Result<Arc<AccessToken>, Unavailable> {
        self.wait_for(limit, |token| token.serial() > than.serial()).await
    }

    /// Says that the upstream refused a token: if it is still the one in force, its successor is
    /// fetched at once; a late word about an older one costs nothing.
    pub fn reject(&self, token: &Arc<AccessToken>) {
        let is_newest = self
            .shared
            .token
            .load()
            .as_ref()
            .is_some_and(|newest| Arc::ptr_eq(newest, token));
        if is_newest && self.shared.rejected.fetch_max(token.serial(), Ordering::AcqRel) < token.serial() {
            self.shared.word.notify_one();
        }
    }

    /// What the refresher last said of itself.
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        self.status.borrow().clone()
    }

    async fn wait_for(
        &self,
        limit: Duration,
        wanted: impl Fn(&AccessToken) -> bool,
    ) -> Result<Arc<AccessToken>, Unavailable> {
        let deadline = Instant::now() + limit;
        let mut status = self.status.clone();
        loop {
            // Marked as seen before the cell is read: a token stored after that wakes us.
            let told = status.borrow_and_update().clone();
            if let Some(token) = self.current().filter(|token| wanted(token)) {
                return Ok(token);
            }
            // The refresher has not answered yet to what spent the token: it is woken, and hoped for.
            let is_unheard = told.last_error.is_none() && self.shared.is_spent();
            if is_unheard {
                self.shared.word.notify_one();
            }
            if !told.is_hopeful && !is_unheard {
                return Err(told.unavailable());
            }
            match tokio::time::timeout_at(deadline, status.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(told.unavailable()),
            }
        }
    }
}

impl TokenStatus {
    fn unavailable(&self) -> Unavailable {
        let until_next = self
            .next_attempt
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        let reason = match &self.last_error {
            Some(error) => error.message.clone(),
            None => "the identity service has not answered yet".to_owned(),
        };
        Unavailable {
            reason,
            retry_after: until_next + Duration::from_secs(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Grant;

    fn token(serial: u64) -> AccessToken {
        let grant = Grant::for_tests("t", Duration::from_secs(10));
        AccessToken::new(&grant, Instant::now(), SystemTime::now(), serial)
    }

    fn status(is_hopeful: bool) -> TokenStatus {
        TokenStatus {
            is_hopeful,
            ..cell().1.status()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_first_token_and_gets_it() {
        let (writer, reader) = cell();
        let waiting = tokio::spawn(async move { reader.wait(Duration::from_secs(2)).await });
        tokio::task::yield_now().await;
        writer.store(token(1));
        writer.tell(status(false));
        assert_eq!(waiting.await.unwrap().unwrap().serial(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_no_longer_than_its_limit() {
        let (_writer, reader) = cell();
        let began = Instant::now();
        assert!(reader.wait(Duration::from_secs(2)).await.is_err());
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_hope_a_request_is_answered_at_once() {
        let (writer, reader) = cell();
        writer.tell(status(false));
        let began = Instant::now();
        assert!(reader.wait(Duration::from_secs(2)).await.is_err());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_token_is_not_current() {
        let (writer, reader) = cell();
        writer.store(token(1));
        assert!(reader.current().is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(reader.current().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_finds_the_token_expired_wakes_the_refresher() {
        let (writer, reader) = cell();
        writer.store(token(1));
        writer.tell(status(false));
        let refresher = tokio::spawn(async move {
            writer.spent().await;
            writer.store(token(2));
            writer.tell(status(false));
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(reader.wait(Duration::from_secs(2)).await.unwrap().serial(), 2);
        refresher.await.unwrap();
    }

    #[tokio::test]
    async fn only_a_refusal_of_the_newest_token_is_heard() {
        let (writer, reader) = cell();
        writer.store(token(1));
        let old = reader.current().unwrap();
        writer.store(token(2));
        reader.reject(&old);
        let heard = tokio::time::timeout(Duration::from_millis(10), writer.spent()).await;
        assert!(heard.is_err(), "a late refusal of an old token is not heard");
        reader.reject(&reader.current().unwrap());
        writer.spent().await;
    }
}
