//! Counts of an upstream's requests, for each minute of the last hour.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finished_request::FinishedRequest;

/// The requests that ended in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// All of them.
    pub requests: u32,
    /// Those without a response, that the upstream failed, or that bondgate refused.
    pub errors: u32,
    /// Those with a response.
    pub answered: u32,
    /// Bondgate's own time until the response's head, over those with a response.
    pub own_sum: Duration,
    /// The longest of these times.
    pub own_max: Duration,
    /// Those with a response that were sent to the upstream.
    pub sent: u32,
    /// The upstream's time until the response's head, over those that were sent.
    pub upstream_sum: Duration,
    /// The longest of these times.
    pub upstream_max: Duration,
}

/// A ring of minutes. Each knows which minute it counts, so that an old one needs no timer to end, and a clock that is set
/// back does no harm.
pub(super) struct Minutes(Box<[(u64, Minute); LENGTH]>);

const LENGTH: usize = 60;

impl Default for Minutes {
    fn default() -> Self {
        Self(Box::new([(0, Minute::default()); LENGTH]))
    }
}

impl Minutes {
    pub(super) fn add(&mut self, request: &FinishedRequest<'_>) {
        let number = number(request.at);
        let (counted, minute) = &mut self.0[slot(number)];
        if *counted != number {
            (*counted, *minute) = (number, Minute::default());
        }
        minute.add(request);
    }

    /// The last hour, the oldest minute first.
    pub(super) fn until(&self, now: SystemTime) -> [Minute; LENGTH] {
        let last = number(now);
        std::array::from_fn(|at| {
            let number = (last + 1 + at as u64).saturating_sub(LENGTH as u64);
            let (counted, minute) = self.0[slot(number)];
            if counted == number {
                minute
            } else {
                Minute::default()
            }
        })
    }

    /// Whether there was no request in the last hour.
    pub(super) fn is_idle(&self, now: SystemTime) -> bool {
        self.until(now).iter().all(|minute| minute.requests == 0)
    }
}

impl Minute {
    fn add(&mut self, request: &FinishedRequest<'_>) {
        self.requests = self.requests.saturating_add(1);
        self.errors = self.errors.saturating_add(u32::from(request.is_error()));
        if request.status == 0 {
            return;
        }
        self.answered = self.answered.saturating_add(1);
        self.own_sum = self.own_sum.saturating_add(request.own_time);
        self.own_max = self.own_max.max(request.own_time);
        if request.is_sent {
            self.sent = self.sent.saturating_add(1);
            self.upstream_sum = self.upstream_sum.saturating_add(request.upstream_time);
            self.upstream_max = self.upstream_max.max(request.upstream_time);
        }
    }

    /// Bondgate's own time for a request of this minute on average.
    #[must_use]
    pub fn own_mean(&self) -> Duration {
        self.own_sum.checked_div(self.answered).unwrap_or_default()
    }

    /// The upstream's time for a request of this minute on average.
    #[must_use]
    pub fn upstream_mean(&self) -> Duration {
        self.upstream_sum.checked_div(self.sent).unwrap_or_default()
    }
}

/// Minutes since 1970.
fn number(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60
}

#[expect(clippy::cast_possible_truncation, reason = "it is less than 60")]
fn slot(number: u64) -> usize {
    (number % LENGTH as u64) as usize
}
