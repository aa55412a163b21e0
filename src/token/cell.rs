//! The place of one upstream's token: an arc-swap cell that requests read without a lock, and a
//! watch on what the refresher is doing, for those that find it empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::clock::{Clock, Moment};
use super::state::{Holding, TokenState, TokenStatus, Unavailable};
use super::{AccessToken, FetchErrorKind};

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
    clock: Clock,
    token: ArcSwapOption<AccessToken>,
    /// The serial of the newest token that the upstream refused.
    rejected: AtomicU64,
    /// Rung when a request has something to say of the token.
    word: Notify,
}

impl Shared {
    fn holding(&self, now: Moment) -> Holding {
        match &*self.token.load() {
            None => Holding::Nothing,
            Some(token) if token.is_expired(now) => Holding::Expired,
            Some(_) => Holding::Good,
        }
    }

    fn is_rejected(&self) -> bool {
        let newest = self.token.load();
        let rejected = self.rejected.load(Ordering::Acquire);
        newest.as_ref().is_some_and(|token| token.serial() == rejected)
    }

    fn is_spent(&self) -> bool {
        self.is_rejected() || self.holding(self.clock.now()) == Holding::Expired
    }
}

/// An empty place, as two halves, with the clock that its tokens live by.
#[must_use]
pub fn cell(clock: Clock) -> (TokenWriter, TokenReader) {
    let (sender, receiver) = watch::channel(TokenStatus::new(clock.now().wall));
    let shared = Arc::new(Shared {
        clock,
        token: ArcSwapOption::empty(),
        rejected: AtomicU64::new(0),
        word: Notify::new(),
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
    /// The clock that tokens live by.
    pub(super) fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Puts a new token in force.
    pub fn store(&self, token: AccessToken) {
        self.shared.token.store(Some(Arc::new(token)));
    }

    /// Puts in force what another place holds, until there is something newer.
    pub fn adopt(&self, from: &TokenReader) {
        self.shared.token.store(from.shared.token.load_full());
    }

    /// The token in force, expired or not.
    #[must_use]
    pub fn newest(&self) -> Option<Arc<AccessToken>> {
        self.shared.token.load_full()
    }

    /// What there is to send.
    pub(super) fn holding(&self) -> Holding {
        self.shared.holding(self.shared.clock.now())
    }

    /// Whether the upstream refused the token in force.
    pub(super) fn is_rejected(&self) -> bool {
        self.shared.is_rejected()
    }

    /// Resolves when the token in force is of no more use: its time is over, the upstream refused it,
    /// or a request found it expired by the wall clock (after a suspend or a step). Cancel safe.
    pub async fn spent(&self) {
        while !self.shared.is_spent() {
            let newest = self.newest();
            let is_over = async {
                match newest {
                    Some(token) => self.shared.clock.reached(token.expires()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.word.notified() => {}
                () = is_over => {}
            }
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
        let now = self.shared.clock.now();
        self.shared
            .token
            .load_full()
            .filter(|token| !token.is_expired(now))
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
    /// fetched at once; a late word about an older one costs nothing. By its serial, since a token that the identity
    /// service repeats is stored again with another end.
    pub fn reject(&self, token: &AccessToken) {
        let newest = self.shared.token.load();
        let is_newest = newest
            .as_ref()
            .is_some_and(|newest| newest.serial() == token.serial());
        if is_newest && self.shared.rejected.fetch_max(token.serial(), Ordering::AcqRel) < token.serial() {
            self.shared.word.notify_one();
        }
    }

    /// What the refresher last said of itself, as it stands now.
    #[must_use]
    pub fn status(&self) -> TokenStatus {
        let mut status = self.status.borrow().clone();
        let now = self.shared.clock.now();
        if let Some(token) = self.shared.token.load_full() {
            // The refresher may not have heard yet of a clock that was set, or of a sleep.
            status.expires = Some(token.expires_wall(now));
            let state = TokenState::of(status.activity, status.error_kind(), self.shared.holding(now));
            if state != status.state {
                status.state = state;
                status.since = token.expires().wall.min(now.wall);
            }
        }
        status
    }

    /// Whether the upstream refuses one new token after another.
    #[must_use]
    pub fn are_rejected(&self) -> bool {
        self.status.borrow().error_kind() == Some(FetchErrorKind::Rejected)
    }

    /// How long it is from now to a moment of the token clock.
    #[must_use]
    pub fn until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.shared.clock.now().monotonic)
    }

    /// Resolves at the next change of what [`status`](Self::status) tells. Cancel safe.
    pub async fn changed(&mut self) {
        if self.status.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
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
            // The refresher may not have heard yet what spent the token. It is woken, and hoped for where
            // nothing went wrong before.
            let is_spent = self.shared.is_spent();
            if is_spent {
                self.shared.word.notify_one();
            }
            let is_unheard = is_spent && told.last_error.is_none();
            if !told.is_hopeful && !is_unheard {
                return Err(told.unavailable(self.shared.clock.now().monotonic));
            }
            match tokio::time::timeout_at(deadline, status.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => {
                    return Err(told.unavailable(self.shared.clock.now().monotonic));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Grant;

    /// A place on the paused clock.
    fn cell() -> (TokenWriter, TokenReader) {
        super::cell(Clock::faster(1))
    }

    fn token(writer: &TokenWriter, serial: u64) -> AccessToken {
        let grant = Grant::for_tests("t", Duration::from_secs(10));
        AccessToken::new(&grant, writer.clock().now(), serial)
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
        writer.store(token(&writer, 1));
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
        writer.store(token(&writer, 1));
        assert!(reader.current().is_some());
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(reader.current().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_finds_the_token_expired_wakes_the_refresher() {
        let (writer, reader) = cell();
        writer.store(token(&writer, 1));
        writer.tell(status(false));
        let refresher = tokio::spawn(async move {
            writer.spent().await;
            writer.store(token(&writer, 2));
            writer.tell(status(false));
        });
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(reader.wait(Duration::from_secs(2)).await.unwrap().serial(), 2);
        refresher.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_is_set_forward_ends_a_token_and_set_back_prolongs_none() {
        let clock = Clock::faster(1);
        let (writer, reader) = super::cell(clock.clone());
        let two_hours = Duration::from_secs(7200);
        writer.store(token(&writer, 1));
        clock.set_wall(two_hours, false);
        assert!(reader.current().is_none(), "a suspend, or a step");
        assert_eq!(reader.status().state, TokenState::Expired);

        writer.store(token(&writer, 2));
        clock.set_wall(two_hours, true);
        assert!(reader.current().is_some());
        tokio::time::advance(Duration::from_secs(9)).await;
        let left = reader.status().expires.unwrap().duration_since(clock.now().wall);
        assert_eq!(left.unwrap(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(reader.current().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_spent_when_its_time_is_over_though_nobody_asks() {
        let (writer, _reader) = cell();
        writer.store(token(&writer, 1));
        let began = Instant::now();
        writer.spent().await;
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test]
    async fn only_a_refusal_of_the_newest_token_is_heard() {
        let (writer, reader) = cell();
        writer.store(token(&writer, 1));
        let old = reader.current().unwrap();
        writer.store(token(&writer, 2));
        reader.reject(&old);
        let heard = tokio::time::timeout(Duration::from_millis(10), writer.spent()).await;
        assert!(heard.is_err(), "a late refusal of an old token is not heard");
        reader.reject(&reader.current().unwrap());
        writer.spent().await;
    }
}
