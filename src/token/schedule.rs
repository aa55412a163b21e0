//! When to fetch: pure functions of lifetimes, failures and a random number.
//!
//! Everything is jittered, so that replicas which started together, or lost their identity service
//! together, come apart; the README shows what ten thousand of them ask for.

use std::time::Duration;

/// When a token's successor is fetched, and how long to wait after a failure.
///
/// A refresh begins at 45 to 55 % of the lifetime: a one-hour token rides out 27 minutes without
/// its identity service at least.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The first wait after a failure; doubled for each further one.
    pub first_wait: Duration,
    /// The longest wait while a token still serves.
    pub longest_wait: Duration,
    /// The longest wait with no usable token.
    pub longest_wait_expired: Duration,
    /// The shortest wait after credentials were refused; it is jittered up to twice as long.
    /// (Each try counts as a failed login.)
    pub refused_wait: Duration,
    /// How long to wait for the successor of a token that the identity service still returns in its last second.
    pub successor_wait: Duration,
    /// How often a successor is asked for at that pace, before its absence counts as a failure.
    pub successor_tries: u32,
}

/// A token that is returned again is asked for at half of what it has left while that is longer: should its successor
/// be there early, there is one when the identity service fails.
const EARLY: Duration = Duration::from_secs(60);
/// How far two statements of the same end lie apart: whole seconds, cut or rounded up, and the time on the way.
const ROUNDING: Duration = Duration::from_millis(1500);

impl Default for Schedule {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            longest_wait_expired: Duration::from_secs(10),
            refused_wait: Duration::from_secs(30),
            successor_wait: Duration::from_millis(250),
            successor_tries: 8,
        }
    }
}

impl Schedule {
    /// How long after it was asked for a token's successor is fetched; `random` is in 0..1.
    #[must_use]
    pub fn refresh_after(&self, lifetime: Duration, random: f64) -> Duration {
        lifetime.mul_f64(0.45 + 0.1 * random.clamp(0.0, 1.0))
    }

    /// How long after it was asked for again a token's successor is asked for, where the identity service returned the
    /// same token with so much left; `random` is in 0..1.
    #[must_use]
    pub fn refresh_repeated_after(&self, left: Duration, random: f64) -> Duration {
        if left >= EARLY {
            self.refresh_after(left, random)
        } else {
            left
        }
    }

    /// What a token that is returned again has left: what its reply says, or what was `known` before where that is
    /// the same but for the rounding to whole seconds, which is none in a token's first reply.
    #[must_use]
    pub fn left_of_repeated(&self, stated: Duration, known: Duration) -> Duration {
        if stated.abs_diff(known) <= ROUNDING {
            known
        } else {
            stated
        }
    }

    /// How long to wait for a successor that is due in a moment; `random` is in 0..1.
    #[must_use]
    pub fn wait_for_successor(&self, random: f64) -> Duration {
        self.successor_wait.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
    }

    /// How long to wait after this many failures in a row (1 at least). `left` is what the token in
    /// force still has, nothing where there is none; `asked` is what the server's `Retry-After` says;
    /// `random` is in 0..1.
    ///
    /// The waits double up to the longest, which shrinks as the token nears its end: no wait begun
    /// while it lives reaches further than [`longest_wait_expired`](Self::longest_wait_expired) past
    /// its expiry. A server that asks for more patience gets it, up to
    /// [`longest_wait`](Self::longest_wait) or half of what the token has left: longer than that would
    /// keep a daemon dead that could be well.
    #[must_use]
    pub fn wait_after_failure(
        &self,
        failures: u32,
        left: Duration,
        asked: Option<Duration>,
        random: f64,
    ) -> Duration {
        let random = random.clamp(0.0, 1.0);
        let longest = (left / 2).clamp(self.longest_wait_expired, self.longest_wait);
        let doubled = self
            .first_wait
            .saturating_mul(1 << failures.saturating_sub(1).min(16))
            .min(longest);
        let asked = asked.unwrap_or_default().min(self.longest_wait.max(left / 2));
        // Whoever was told the same moment shall not come back in it.
        let spread = asked.mul_f64(1.0 + 0.1 * random);
        doubled.mul_f64(0.5 + 0.5 * random).max(spread)
    }

    /// How long to wait after the credentials were refused; `random` is in 0..1.
    #[must_use]
    pub fn wait_after_refusal(&self, random: f64) -> Duration {
        self.refused_wait.mul_f64(1.0 + random.clamp(0.0, 1.0))
    }

    /// How long to wait before another token is fetched, this many in a row (1 at least) having been
    /// of no use when they were young; `random` is in 0..1. The first is replaced at once.
    #[must_use]
    pub fn wait_after_useless(&self, tokens: u32, random: f64) -> Duration {
        if tokens < 2 {
            Duration::ZERO
        } else {
            self.wait_after_failure(tokens - 1, Duration::ZERO, None, random)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const TEN: Duration = Duration::from_secs(10);

    fn schedule() -> Schedule {
        Schedule::default()
    }

    proptest! {
        #[test]
        fn a_refresh_begins_at_about_half_of_the_lifetime(seconds in 10_u64..=86_400, random in 0.0..1.0) {
            let lifetime = Duration::from_secs(seconds);
            let after = schedule().refresh_after(lifetime, random);
            prop_assert!(after >= lifetime.mul_f64(0.44) && after <= lifetime.mul_f64(0.56));
            prop_assert!(after + lifetime.mul_f64(0.44) <= lifetime, "the margin before expiry");
        }

        #[test]
        fn a_wait_after_failure_is_bounded(failures: u32, left in 0_u64..90_000, random in 0.0..1.0) {
            let left = Duration::from_secs(left);
            let wait = schedule().wait_after_failure(failures, left, None, random);
            prop_assert!(wait >= Duration::from_millis(500));
            let longest = if left.is_zero() { TEN } else { MINUTE };
            prop_assert!(wait <= longest);
            prop_assert!(wait <= left + TEN, "no wait reaches far past expiry");
        }

        #[test]
        fn the_first_wait_is_about_a_second_and_each_further_one_no_shorter(
            failures in 1_u32..20, left in 0_u64..4_000, random in 0.0..1.0,
        ) {
            let wait = |failures| schedule().wait_after_failure(failures, Duration::from_secs(left), None, random);
            prop_assert!(wait(1) <= Duration::from_secs(1));
            prop_assert!(wait(failures) <= wait(failures + 1));
        }

        #[test]
        fn a_server_that_asks_for_patience_gets_it_within_reason(
            asked in 0_u64..100_000, failures in 1_u32..20, left in 0_u64..4_000, random in 0.0..1.0,
        ) {
            let (asked, left) = (Duration::from_secs(asked), Duration::from_secs(left));
            let wait = schedule().wait_after_failure(failures, left, Some(asked), random);
            prop_assert!(wait >= asked.min(MINUTE), "up to a minute in any case");
            prop_assert!(wait >= asked.min(left / 2), "longer where the token lasts");
            prop_assert!(wait <= MINUTE.max(left / 2).mul_f64(1.11), "and never for good");
        }

        #[test]
        fn useless_tokens_are_not_fetched_in_a_loop(tokens in 2_u32..1000, random in 0.0..1.0) {
            prop_assert_eq!(schedule().wait_after_useless(1, random), Duration::ZERO);
            let wait = schedule().wait_after_useless(tokens, random);
            prop_assert!(wait >= Duration::from_millis(500) && wait <= TEN);
        }

        #[test]
        fn refused_credentials_are_tried_again_after_30_to_60_seconds(random in 0.0..1.0) {
            let wait = schedule().wait_after_refusal(random);
            prop_assert!(wait >= Duration::from_secs(30) && wait <= MINUTE);
        }
    }
}
