//! Records failed deliveries: the pauses that follow, and the decision whether the message or the caller is at fault.
//!
//! A failed delivery pauses the message for its caller alone. After five failures the caller is offered the next message
//! at once: if it takes that one, the first message is at fault and becomes a dead letter; if it fails again, the caller
//! is at fault and both messages stay in the queue. A caller that comes back later may have been repaired, so it is
//! offered the first message again. Messages that are not stored have no second delivery: their failures pause the
//! caller's pulls.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::id::MessageId;

/// Failed deliveries after which a message is failing, and its caller is offered the next one.
pub(super) const FAILING: u32 = 5;

/// The failed deliveries of one queue.
pub(super) struct FailedDeliveries {
    /// The pause after the first failure, the second, and so on. The last one repeats.
    steps: Arc<[Duration]>,
    failing: Mutex<Failures>,
}

/// By caller and message. `None` stands for the messages that could not be stored and are lost: they pause the caller's
/// pulls.
type Failures = HashMap<(Arc<str>, Option<MessageId>), Failing>;

/// The failed deliveries of one message to one caller.
struct Failing {
    failures: u32,
    failed: Instant,
    until: Instant,
    /// The next message was not tried since the last failure.
    is_next_untried: bool,
    /// The delivery of the next message failed too.
    is_at_fault: bool,
}

/// What a caller is offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// The oldest message.
    Message,
    /// The message behind it, which shows whether the first message or the caller is at fault.
    Next,
    /// Nothing for this long, after so many failures.
    Paused(Duration, u32),
}

/// How many failures must be the caller's own before the next message is tried: one broken connection proves nothing.
const OWN_FAILURES: u32 = 2;
/// The most entries: callers may come from any number of addresses.
const MOST: usize = 1024;
/// How soon after a failure the next message still shows which of the two is at fault.
const FRESH: Duration = Duration::from_secs(30);
/// How long a failure is remembered after its pause.
const REMEMBERED: Duration = Duration::from_secs(3600);

impl FailedDeliveries {
    pub(super) fn new(steps: Arc<[Duration]>) -> Self {
        Self {
            steps,
            failing: Mutex::default(),
        }
    }

    fn step(&self, failures: u32) -> Duration {
        let at = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX);
        let step = self.steps.get(at).or(self.steps.last());
        step.copied().unwrap_or_default()
    }

    /// What a caller is offered. Deliveries of the oldest message, `message`, failed `total` times; `None` is a message
    /// that is still to be pulled.
    pub(super) fn offer(&self, caller: &Arc<str>, message: Option<MessageId>, total: u32) -> Offer {
        let all = self.failing.lock();
        let Some(failing) = all.get(&(caller.clone(), message)) else {
            return Offer::Message;
        };
        let now = Instant::now();
        let is_fresh = now < failing.until.max(failing.failed + FRESH);
        let is_suspect = total >= FAILING && failing.failures >= OWN_FAILURES;
        if is_suspect && failing.is_next_untried && is_fresh {
            Offer::Next
        } else if now < failing.until {
            Offer::Paused(failing.until - now, failing.failures)
        } else {
            Offer::Message
        }
    }

    /// Records that a delivery of the oldest message failed, or with `None` that of one that is lost. Returns the pause
    /// that follows.
    pub(super) fn failed(&self, caller: &Arc<str>, message: Option<MessageId>) -> Duration {
        let mut all = self.failing.lock();
        make_room(&mut all);
        let now = Instant::now();
        let failing = all.entry((caller.clone(), message)).or_insert(Failing {
            failures: 0,
            failed: now,
            until: now,
            is_next_untried: true,
            is_at_fault: false,
        });
        failing.failures += 1;
        failing.is_next_untried = true;
        let pause = self.step(failing.failures);
        failing.failed = now;
        failing.until = now + pause;
        pause
    }

    /// Records that the delivery of the message behind `message` failed too. Returns whether the caller is newly at fault.
    pub(super) fn next_failed(&self, caller: &Arc<str>, message: MessageId) -> bool {
        let is_known = self.at_fault().contains(caller);
        self.next_tried(caller, message, true);
        !is_known
    }

    /// Records that there is no message behind `message`.
    pub(super) fn no_next(&self, caller: &Arc<str>, message: MessageId) {
        self.next_tried(caller, message, false);
    }

    fn next_tried(&self, caller: &Arc<str>, message: MessageId, has_failed: bool) {
        if let Some(failing) = self.failing.lock().get_mut(&(caller.clone(), Some(message))) {
            failing.is_next_untried = false;
            failing.is_at_fault |= has_failed;
            failing.failures += u32::from(has_failed);
            let step = if has_failed { failing.failures } else { u32::MAX };
            failing.until = Instant::now() + self.step(step);
        }
    }

    /// Records a delivery: the caller is not at fault, and may pull. Other messages stay paused.
    pub(super) fn delivered(&self, caller: &str, message: MessageId) {
        self.forget(message);
        self.failing.lock().retain(|(failing_caller, failed), failing| {
            let is_other = **failing_caller != *caller;
            failing.is_at_fault &= is_other;
            is_other || failed.is_some()
        });
    }

    /// Forgets a message that has left the queue.
    pub(super) fn forget(&self, message: MessageId) {
        self.failing
            .lock()
            .retain(|(_, failed), _| *failed != Some(message));
    }

    /// The callers at fault.
    pub(super) fn at_fault(&self) -> BTreeSet<Arc<str>> {
        let all = self.failing.lock();
        let at_fault = all
            .iter()
            .filter(|(_, failing)| failing.is_at_fault && failing.is_remembered());
        at_fault.map(|((caller, _), _)| caller.clone()).collect()
    }

    /// Whether no failure has to be remembered.
    pub(super) fn is_empty(&self) -> bool {
        let mut all = self.failing.lock();
        all.retain(|_, failing| failing.is_remembered());
        all.is_empty()
    }
}

impl Failing {
    fn is_remembered(&self) -> bool {
        self.until + REMEMBERED > Instant::now()
    }
}

/// Forgets the failure whose pause ends first, if there are too many.
fn make_room(all: &mut Failures) {
    if all.len() < MOST {
        return;
    }
    let first = all.iter().min_by_key(|(_, failing)| failing.until);
    if let Some(key) = first.map(|(key, _)| key.clone()) {
        all.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses() -> FailedDeliveries {
        FailedDeliveries::new([0, 1, 5, 30, 120, 600].map(Duration::from_secs).into())
    }

    fn messages() -> [MessageId; 2] {
        let first = MessageId::now(None);
        [first, MessageId::now(Some(first))]
    }

    /// Fails so often, each time after the pause; the pauses in seconds.
    async fn fail(pauses: &FailedDeliveries, caller: &Arc<str>, message: MessageId, times: u32) -> Vec<u64> {
        let mut seconds = Vec::new();
        for _ in 0..times {
            let pause = pauses.failed(caller, Some(message));
            tokio::time::sleep(pause).await;
            seconds.push(pause.as_secs());
        }
        seconds
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_pauses_the_message_for_longer_and_for_that_caller_alone() {
        let (pauses, caller, [message, other]) = (pauses(), Arc::from("one"), messages());
        assert_eq!(
            fail(&pauses, &caller, message, 8).await,
            [0, 1, 5, 30, 120, 600, 600, 600]
        );
        pauses.failed(&caller, Some(message));
        let left = Duration::from_secs(600);
        assert_eq!(
            pauses.offer(&"one".into(), Some(message), 4),
            Offer::Paused(left, 9)
        );
        assert_eq!(pauses.offer(&"two".into(), Some(message), 4), Offer::Message);
        assert_eq!(
            pauses.offer(&"one".into(), Some(other), 0),
            Offer::Message,
            "another message is not paused"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_failures_the_next_message_is_tried_once_and_at_once() {
        let (pauses, caller, [message, _]) = (pauses(), Arc::from("one"), messages());
        fail(&pauses, &caller, message, 4).await;
        pauses.failed(&caller, Some(message));
        assert_eq!(pauses.offer(&"one".into(), Some(message), 5), Offer::Next);
        assert!(pauses.next_failed(&"one".into(), message), "reported");
        assert_eq!(pauses.at_fault(), [caller.clone()].into());
        assert_eq!(
            pauses.offer(&"one".into(), Some(message), 5),
            Offer::Paused(Duration::from_secs(600), 6)
        );
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(pauses.offer(&"one".into(), Some(message), 5), Offer::Message);
        pauses.failed(&caller, Some(message));
        assert_eq!(pauses.offer(&"one".into(), Some(message), 6), Offer::Next);
        assert!(!pauses.next_failed(&"one".into(), message), "reported once");
        pauses.delivered("one", message);
        assert_eq!(pauses.offer(&"one".into(), Some(message), 6), Offer::Message);
        assert!(pauses.at_fault().is_empty() && pauses.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_comes_back_after_its_pause_is_offered_the_message_that_it_failed_to_take() {
        let (pauses, caller, [message, _]) = (pauses(), Arc::from("one"), messages());
        fail(&pauses, &caller, message, 5).await;
        assert_eq!(pauses.offer(&"one".into(), Some(message), 5), Offer::Message);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_without_a_next_one_keeps_the_longest_pause() {
        let (pauses, caller, [message, _]) = (pauses(), Arc::from("one"), messages());
        fail(&pauses, &caller, message, 5).await;
        pauses.no_next(&"one".into(), message);
        assert_eq!(
            pauses.offer(&"one".into(), Some(message), 5),
            Offer::Paused(Duration::from_secs(600), 5)
        );
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(pauses.offer(&"one".into(), Some(message), 5), Offer::Message);
    }

    #[tokio::test(start_paused = true)]
    async fn two_connections_of_one_caller_do_not_end_each_others_pauses() {
        let (pauses, caller, [first, second]) = (pauses(), Arc::from("one"), messages());
        for pause in [0, 1, 5, 30] {
            assert_eq!(pauses.failed(&caller, Some(first)).as_secs(), pause);
            assert_eq!(pauses.failed(&caller, Some(second)).as_secs(), pause);
        }
        pauses.delivered("one", second);
        let left = Duration::from_secs(30);
        assert_eq!(pauses.offer(&caller, Some(first), 4), Offer::Paused(left, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_messages_pause_the_pulls_of_their_caller_until_a_message_is_delivered_to_it() {
        let (pauses, caller, [message, other]) = (pauses(), Arc::from("one"), messages());
        for pause in [0, 1, 5, 30] {
            assert_eq!(pauses.failed(&caller, None).as_secs(), pause);
        }
        let withheld = Offer::Paused(Duration::from_secs(30), 4);
        assert_eq!(pauses.offer(&caller, None, 0), withheld);
        assert_eq!(pauses.offer(&caller, Some(message), 0), Offer::Message);
        assert_eq!(pauses.offer(&"two".into(), None, 0), Offer::Message);
        pauses.delivered("two", other);
        assert_eq!(pauses.offer(&caller, None, 0), withheld);
        pauses.delivered("one", other);
        assert_eq!(pauses.offer(&caller, None, 0), Offer::Message);
    }

    #[tokio::test(start_paused = true)]
    async fn one_broken_connection_of_a_second_caller_does_not_put_the_message_at_fault() {
        let (pauses, [message, _]) = (pauses(), messages());
        fail(&pauses, &Arc::from("one"), message, 4).await;
        let two = Arc::from("two");
        pauses.failed(&two, Some(message));
        assert_eq!(pauses.offer(&"two".into(), Some(message), 5), Offer::Message);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_are_remembered_for_an_hour_after_their_pause_and_their_number_is_bounded() {
        let (pauses, [message, _]) = (pauses(), messages());
        for caller in 0..MOST + 10 {
            pauses.failed(&caller.to_string().into(), Some(message));
        }
        assert_eq!(pauses.failing.lock().len(), MOST);
        tokio::time::sleep(REMEMBERED + Duration::from_secs(1)).await;
        assert!(pauses.is_empty());
    }
}
