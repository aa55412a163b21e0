//! Refusals before the request stack: connections at a limit or in their TLS handshake, and malformed heads.
//!
//! They are counted by listener and problem, apart from the recent requests: a scanner's flood changes one count, and
//! moves no request out of the list.

use std::sync::Arc;
use std::time::SystemTime;

/// A refusal.
#[derive(Clone, Debug)]
pub struct Refusal<'a> {
    /// When.
    pub at: SystemTime,
    /// The listener's label.
    pub listener: &'a str,
    /// The code of the problem.
    pub problem: &'static str,
    /// The response's status; 0 if the connection was closed without a response.
    pub status: u16,
    /// The caller's address, or its user on a unix socket.
    pub caller: Option<Arc<str>>,
}

/// The refusals of one listener for one problem, with one status.
#[derive(Clone, Debug)]
pub struct RefusalCount {
    /// The listener's label.
    pub listener: String,
    /// The code of the problem.
    pub problem: &'static str,
    /// The response's status; 0 if the connection was closed without a response.
    pub status: u16,
    /// How many.
    pub number: u64,
    /// When the first one was.
    pub first: SystemTime,
    /// When the last one was.
    pub last: SystemTime,
    /// The last callers, each once, the last one first.
    pub callers: Vec<Arc<str>>,
}

/// The counts. There are few listeners and problems; beyond [`MOST`], the count whose last refusal is the oldest makes room.
#[derive(Default)]
pub(super) struct Refusals(Vec<RefusalCount>);

const MOST: usize = 20;
/// How many callers of a count are kept.
const CALLERS: usize = 5;

impl Refusals {
    pub(super) fn add(&mut self, refusal: Refusal<'_>) {
        if let Some(count) = self.0.iter_mut().find(|count| count.is_of(&refusal)) {
            count.add(refusal);
            return;
        }
        if self.0.len() == MOST
            && let Some(oldest) = (0..MOST).min_by_key(|at| self.0[*at].last)
        {
            self.0.swap_remove(oldest);
        }
        self.0.push(RefusalCount::of(refusal));
    }

    /// The counts, the one with the last refusal first.
    pub(super) fn newest_first(&self) -> Vec<RefusalCount> {
        let mut counts = self.0.clone();
        counts.sort_by_key(|count| std::cmp::Reverse(count.last));
        counts
    }
}

impl RefusalCount {
    fn of(refusal: Refusal<'_>) -> Self {
        Self {
            listener: refusal.listener.to_owned(),
            problem: refusal.problem,
            status: refusal.status,
            number: 1,
            first: refusal.at,
            last: refusal.at,
            callers: refusal.caller.into_iter().collect(),
        }
    }

    fn is_of(&self, refusal: &Refusal<'_>) -> bool {
        self.status == refusal.status && self.problem == refusal.problem && self.listener == refusal.listener
    }

    fn add(&mut self, refusal: Refusal<'_>) {
        self.number = self.number.saturating_add(1);
        self.last = refusal.at;
        let Some(caller) = refusal.caller else { return };
        if let Some(at) = self.callers.iter().position(|known| *known == caller) {
            self.callers[..=at].rotate_right(1);
        } else {
            self.callers.truncate(CALLERS - 1);
            self.callers.insert(0, caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn refusal(seconds: u64, caller: &str) -> Refusal<'static> {
        Refusal {
            at: UNIX_EPOCH + Duration::from_secs(seconds),
            listener: "127.0.0.1:8080",
            problem: "request-malformed",
            status: 400,
            caller: Some(caller.into()),
        }
    }

    #[test]
    fn a_flood_is_one_count_with_its_last_callers() {
        let mut refusals = Refusals::default();
        for second in 0..1000 {
            refusals.add(refusal(second, &format!("10.0.0.{}", second % 7)));
        }
        refusals.add(refusal(1000, "10.0.0.4"));
        let [count] = &refusals.newest_first()[..] else {
            panic!("one listener and one problem")
        };
        assert_eq!(count.number, 1001);
        assert_eq!(count.first, UNIX_EPOCH);
        assert_eq!(count.last, UNIX_EPOCH + Duration::from_secs(1000));
        let callers: Vec<_> = count.callers.iter().map(|caller| &**caller).collect();
        assert_eq!(
            callers,
            ["10.0.0.4", "10.0.0.5", "10.0.0.3", "10.0.0.2", "10.0.0.1"]
        );
    }

    #[test]
    fn listeners_problems_and_statuses_are_counted_apart_the_newest_first() {
        let mut refusals = Refusals::default();
        refusals.add(refusal(0, "a"));
        refusals.add(Refusal {
            listener: "127.0.0.1:8081",
            ..refusal(1, "a")
        });
        refusals.add(Refusal {
            problem: "too-many-connections",
            status: 503,
            ..refusal(2, "a")
        });
        refusals.add(Refusal {
            problem: "too-many-connections",
            status: 0,
            caller: None,
            ..refusal(3, "a")
        });
        let counts = refusals.newest_first();
        let statuses: Vec<_> = counts.iter().map(|count| count.status).collect();
        assert_eq!(statuses, [0, 503, 400, 400]);
        assert!(counts[0].callers.is_empty());
    }

    #[test]
    fn the_oldest_count_makes_room() {
        let mut refusals = Refusals::default();
        for status in 0..100 {
            refusals.add(Refusal {
                status,
                ..refusal(u64::from(status), "a")
            });
        }
        let counts = refusals.newest_first();
        assert_eq!(counts.len(), MOST);
        assert!(counts.iter().all(|count| count.status >= 80));
    }
}
