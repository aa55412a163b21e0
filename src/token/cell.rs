//! The cell of one upstream's token: an arc-swap that requests read without a lock, and the refresher's published
//! status, for requests that find no valid token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::access_token::AccessToken;
use super::clock::Clock;
use super::failure::FetchErrorKind;
use super::status::{TokenStatus, Unavailable};

/// The state that the refresher shares with the requests.
pub(super) struct TokenCell {
    /// The clock that tokens live by.
    pub(super) clock: Clock,
    token: ArcSwapOption<AccessToken>,
    /// The serial of the newest token that the upstream rejected.
    rejected: AtomicU64,
    /// Wakes the refresher when a request finds the token invalid.
    wake: Notify,
}

/// A request's half of the cell; cheap to clone.
#[derive(Clone)]
pub struct TokenReader {
    pub(super) cell: Arc<TokenCell>,
    pub(super) status: watch::Receiver<TokenStatus>,
}

impl TokenCell {
    /// A cell with the token of a `previous` one, if there is one.
    pub(super) fn new(clock: Clock, previous: Option<&TokenReader>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            token: ArcSwapOption::new(previous.and_then(|previous| previous.cell.newest())),
            rejected: AtomicU64::new(0),
            wake: Notify::new(),
        })
    }

    /// Replaces the token.
    pub(super) fn store(&self, token: AccessToken) {
        self.token.store(Some(Arc::new(token)));
    }

    /// The newest token, expired or not.
    pub(super) fn newest(&self) -> Option<Arc<AccessToken>> {
        self.token.load_full()
    }

    /// Whether the upstream rejected the newest token.
    pub(super) fn is_rejected(&self) -> bool {
        let newest = self.newest();
        newest.is_some_and(|token| token.serial == self.rejected.load(Ordering::Acquire))
    }

    /// The remaining lifetime of the newest token; zero if there is none or the upstream rejected it.
    pub(super) fn remaining(&self) -> Duration {
        let newest = self.newest().filter(|_| !self.is_rejected());
        newest.map_or(Duration::ZERO, |token| token.remaining(self.clock.now()))
    }

    fn is_invalidated(&self) -> bool {
        self.newest().is_some() && self.remaining().is_zero()
    }

    /// Resolves when the newest token is invalid: it expired, the upstream rejected it, or a request found it expired
    /// by the wall clock (after a suspend or a step). Cancel safe.
    pub(super) async fn invalidated(&self) {
        while !self.is_invalidated() {
            let Some(token) = self.newest() else {
                self.wake.notified().await;
                continue;
            };
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.clock.reached(token.expires) => {}
            }
        }
    }
}

impl TokenReader {
    /// The valid token, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<AccessToken>> {
        let now = self.cell.clock.now();
        self.cell.newest().filter(|token| !token.is_expired(now))
    }

    /// The valid token; waits up to `limit` for a fetch that may succeed soon.
    pub async fn wait(&self, limit: Duration) -> Result<Arc<AccessToken>, Unavailable> {
        self.wait_for(0, limit).await
    }

    /// A token newer than a rejected one; waits up to `limit` for it.
    pub async fn newer(&self, than: &AccessToken, limit: Duration) -> Result<Arc<AccessToken>, Unavailable> {
        self.wait_for(than.serial, limit).await
    }

    /// Reports that the upstream rejected a token. If it is the newest one, its successor is fetched at once; a late
    /// report about an older token has no effect.
    pub fn reject(&self, token: &AccessToken) {
        // Compare serials, not pointers: a token that the identity service repeats is stored again.
        let newest = self.cell.newest();
        let is_newest = newest.is_some_and(|newest| newest.serial == token.serial);
        if is_newest && self.cell.rejected.fetch_max(token.serial, Ordering::AcqRel) < token.serial {
            self.cell.wake.notify_one();
        }
    }

    /// The refresher's published status, as of now: the refresher may not know yet that the clock was set or that the
    /// machine slept.
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        let status = self.status.borrow().clone();
        status.updated(self.cell.clock.now(), self.cell.newest().as_deref())
    }

    /// Whether there is a token that has not expired, and that the upstream has not rejected.
    #[must_use]
    pub fn has_accepted_token(&self) -> bool {
        !self.cell.remaining().is_zero() && !self.are_rejected()
    }

    /// Whether the upstream rejects one new token after another.
    #[must_use]
    pub fn are_rejected(&self) -> bool {
        self.status.borrow().error_kind() == Some(FetchErrorKind::Rejected)
    }

    async fn wait_for(&self, newer_than: u64, limit: Duration) -> Result<Arc<AccessToken>, Unavailable> {
        let deadline = Instant::now() + limit;
        let mut published = self.status.clone();
        loop {
            // Mark the status as seen before reading the cell: a token that is stored later then wakes this task.
            let status = published.borrow_and_update().clone();
            if let Some(token) = self.current().filter(|token| token.serial > newer_than) {
                return Ok(token);
            }
            // The refresher may not know yet that the token is invalid. Wake it, and wait for it unless its last fetch
            // failed.
            let is_invalidated = self.cell.is_invalidated();
            if is_invalidated {
                self.cell.wake.notify_one();
            }
            let may_succeed = status.may_succeed_soon || (is_invalidated && status.last_error.is_none());
            let changed = tokio::time::timeout_at(deadline, published.changed());
            if !may_succeed || !matches!(changed.await, Ok(Ok(()))) {
                return Err(self.status().unavailable());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::response::Grant;
    use super::super::status::TokenState;
    use super::*;

    type Status = watch::Sender<TokenStatus>;

    /// A cell on the paused clock.
    fn cell() -> (Arc<TokenCell>, Status, TokenReader) {
        cell_with(Clock::faster(1))
    }

    fn cell_with(clock: Clock) -> (Arc<TokenCell>, Status, TokenReader) {
        let (sender, receiver) = watch::channel(TokenStatus::new(clock.now().wall));
        let cell = TokenCell::new(clock, None);
        let reader = TokenReader {
            cell: cell.clone(),
            status: receiver,
        };
        (cell, sender, reader)
    }

    fn token(cell: &TokenCell, serial: u64) -> AccessToken {
        let grant = Grant::for_tests("t", Duration::from_secs(10));
        AccessToken::new(&grant, cell.clock.now(), serial)
    }

    fn status(may_succeed_soon: bool) -> TokenStatus {
        TokenStatus {
            may_succeed_soon,
            ..cell().2.status()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_first_token_and_gets_it() {
        let (cell, status_sender, reader) = cell();
        let waiting = tokio::spawn(async move { reader.wait(Duration::from_secs(2)).await });
        tokio::task::yield_now().await;
        cell.store(token(&cell, 1));
        status_sender.send_replace(status(false));
        assert_eq!(waiting.await.unwrap().unwrap().serial, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_no_longer_than_its_limit() {
        let (_cell, _status_sender, reader) = cell();
        let began = Instant::now();
        assert!(reader.wait(Duration::from_secs(2)).await.is_err());
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_for_a_fetch_that_will_not_succeed_soon() {
        let (_cell, status_sender, reader) = cell();
        status_sender.send_replace(status(false));
        let began = Instant::now();
        assert!(reader.wait(Duration::from_secs(2)).await.is_err());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_expired_token_is_not_current() {
        let (cell, _status_sender, reader) = cell();
        cell.store(token(&cell, 1));
        assert!(reader.current().is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(reader.current().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_finds_the_token_expired_wakes_the_refresher() {
        let (cell, status_sender, reader) = cell();
        cell.store(token(&cell, 1));
        status_sender.send_replace(status(false));
        let refresher = tokio::spawn(async move {
            cell.invalidated().await;
            cell.store(token(&cell, 2));
            status_sender.send_replace(status(false));
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(reader.wait(Duration::from_secs(2)).await.unwrap().serial, 2);
        refresher.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_set_forward_expires_a_token_and_set_back_does_not_prolong_it() {
        let clock = Clock::faster(1);
        let (cell, _status_sender, reader) = cell_with(clock.clone());
        let two_hours = Duration::from_secs(7200);
        cell.store(token(&cell, 1));
        clock.set_wall(two_hours, false);
        assert!(reader.current().is_none(), "a suspend, or a step");
        assert_eq!(reader.status().state, TokenState::Expired);

        cell.store(token(&cell, 2));
        clock.set_wall(two_hours, true);
        assert!(reader.current().is_some());
        tokio::time::advance(Duration::from_secs(9)).await;
        let left = reader.status().expires.unwrap().duration_since(clock.now().wall);
        assert_eq!(left.unwrap(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(reader.current().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_invalidated_at_its_expiry_without_any_request() {
        let (cell, _status_sender, _reader) = cell();
        cell.store(token(&cell, 1));
        let began = Instant::now();
        cell.invalidated().await;
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn only_a_rejection_of_the_newest_token_counts() {
        let (cell, _status_sender, reader) = cell();
        cell.store(token(&cell, 1));
        let old = reader.current().unwrap();
        cell.store(token(&cell, 2));
        reader.reject(&old);
        let invalidated = tokio::time::timeout(Duration::from_millis(10), cell.invalidated()).await;
        assert!(
            invalidated.is_err(),
            "a late rejection of an old token has no effect"
        );
        assert!(reader.has_accepted_token());
        reader.reject(&reader.current().unwrap());
        cell.invalidated().await;
        assert!(!reader.has_accepted_token());
    }
}
