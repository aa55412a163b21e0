//! When to fetch: pure functions of lifetimes, failures and a random number in 0..1.
//!
//! Everything is jittered, so that replicas that start together, or lose their identity service together, spread out;
//! the README shows the load of ten thousand of them.

use std::time::Duration;

/// A token with a shorter lifetime is hardly used before it expires.
pub const SHORT_LIFETIME: Duration = Duration::from_secs(5);
/// The wait after the first failure; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait while a token is valid.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest wait without a valid token.
const LONGEST_WAIT_EXPIRED: Duration = Duration::from_secs(10);
/// The shortest wait after refused credentials, jittered up to twice as long: each attempt is a failed login.
const REFUSED_WAIT: Duration = Duration::from_secs(30);
/// The wait for the successor of a token that the identity service still returns in its last second.
const SUCCESSOR_WAIT: Duration = Duration::from_millis(250);
/// How many requests for a successor follow each other at that pace before they count as failures.
pub(super) const SUCCESSOR_TRIES: u32 = 8;
/// With less left, a repeated token is requested again only at its end.
const EARLY: Duration = Duration::from_secs(60);
/// How far two statements of the same expiry differ: whole seconds, rounded either way, and the time in transit.
const ROUNDING: Duration = Duration::from_millis(1500);

/// How long after its request a new token is refreshed: 45 to 55 % of the lifetime, so that a one-hour token outlasts
/// an outage of at least 27 minutes.
#[must_use]
pub fn refresh_after(lifetime: Duration, random: f64) -> Duration {
    lifetime.mul_f64(0.45 + 0.1 * random)
}

/// How long after its request a repeated token, with `remaining` left, is requested again.
pub(super) fn refresh_repeated_after(remaining: Duration, random: f64) -> Duration {
    if remaining >= EARLY {
        refresh_after(remaining, random)
    } else {
        remaining
    }
}

/// The lifetime of a token as `stated` by its newest reply. If it was `known` before and both differ by rounding only,
/// the known one: a token's first reply is not rounded.
pub(super) fn remaining(stated: Duration, known: Option<Duration>) -> Duration {
    match known {
        Some(known) if !stated.is_zero() && stated.abs_diff(known) <= ROUNDING => known,
        _ => stated,
    }
}

/// The wait for a successor that is due in a moment.
pub(super) fn wait_for_successor(random: f64) -> Duration {
    SUCCESSOR_WAIT.mul_f64(0.9 + 0.2 * random)
}

/// The wait after this many failures in a row (1 or more). `remaining` is the valid token's lifetime, zero without one;
/// `requested` is the server's `Retry-After`, zero without one.
///
/// The waits double up to a limit that shrinks as the token nears its expiry: no wait reaches further than 10 s past
/// it. `Retry-After` is honoured up to a minute or half of `remaining`; more would keep a daemon down after a recovery.
#[must_use]
pub fn wait_after_failure(failures: u32, remaining: Duration, requested: Duration, random: f64) -> Duration {
    let longest = (remaining / 2).clamp(LONGEST_WAIT_EXPIRED, LONGEST_WAIT);
    let doubling = 1 << failures.saturating_sub(1).min(16);
    let doubled = FIRST_WAIT.saturating_mul(doubling).min(longest);
    let requested = requested.min(LONGEST_WAIT.max(remaining / 2));
    // Spread the replicas that were given the same `Retry-After`.
    let spread = requested.mul_f64(1.0 + 0.1 * random);
    doubled.mul_f64(0.5 + 0.5 * random).max(spread)
}

/// The wait after the credentials were refused.
pub(super) fn wait_after_refusal(random: f64) -> Duration {
    REFUSED_WAIT.mul_f64(1.0 + random)
}

/// The wait before the next fetch after this many short-lived tokens in a row (1 or more). The first is replaced at
/// once.
pub(super) fn wait_after_short_lived(tokens: u32, random: f64) -> Duration {
    if tokens < 2 {
        Duration::ZERO
    } else {
        wait_after_failure(tokens - 1, Duration::ZERO, Duration::ZERO, random)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const TEN: Duration = Duration::from_secs(10);

    proptest! {
        #[test]
        fn a_refresh_begins_at_about_half_of_the_lifetime(seconds in 10_u64..=86_400, random in 0.0..1.0) {
            let lifetime = Duration::from_secs(seconds);
            let after = refresh_after(lifetime, random);
            prop_assert!(after >= lifetime.mul_f64(0.44) && after <= lifetime.mul_f64(0.56));
            prop_assert!(after + lifetime.mul_f64(0.44) <= lifetime, "the margin before expiry");
        }

        #[test]
        fn a_wait_after_failure_is_bounded(failures: u32, left in 0_u64..90_000, random in 0.0..1.0) {
            let left = Duration::from_secs(left);
            let wait = wait_after_failure(failures, left, Duration::ZERO, random);
            prop_assert!(wait >= Duration::from_millis(500));
            let longest = if left.is_zero() { TEN } else { MINUTE };
            prop_assert!(wait <= longest);
            prop_assert!(wait <= left + TEN, "no wait reaches far past expiry");
        }

        #[test]
        fn the_first_wait_is_about_a_second_and_each_further_one_no_shorter(
            failures in 1_u32..20, left in 0_u64..4_000, random in 0.0..1.0,
        ) {
            let wait = |failures| wait_after_failure(failures, Duration::from_secs(left), Duration::ZERO, random);
            prop_assert!(wait(1) <= Duration::from_secs(1));
            prop_assert!(wait(failures) <= wait(failures + 1));
        }

        #[test]
        fn retry_after_is_honoured_up_to_a_limit(
            requested in 0_u64..100_000, failures in 1_u32..20, left in 0_u64..4_000, random in 0.0..1.0,
        ) {
            let (requested, left) = (Duration::from_secs(requested), Duration::from_secs(left));
            let wait = wait_after_failure(failures, left, requested, random);
            prop_assert!(wait >= requested.min(MINUTE), "up to a minute in any case");
            prop_assert!(wait >= requested.min(left / 2), "longer while the token is valid");
            prop_assert!(wait <= MINUTE.max(left / 2).mul_f64(1.11), "and never for ever");
        }

        #[test]
        fn short_lived_tokens_are_not_fetched_in_a_loop(tokens in 2_u32..1000, random in 0.0..1.0) {
            prop_assert_eq!(wait_after_short_lived(1, random), Duration::ZERO);
            let wait = wait_after_short_lived(tokens, random);
            prop_assert!(wait >= Duration::from_millis(500) && wait <= TEN);
        }

        #[test]
        fn refused_credentials_are_retried_after_30_to_60_seconds(random in 0.0..1.0) {
            let wait = wait_after_refusal(random);
            prop_assert!(wait >= Duration::from_secs(30) && wait <= MINUTE);
        }
    }
}
