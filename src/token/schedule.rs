//! When to fetch: pure functions of lifetimes, failures and a random number.

use std::time::Duration;

/// When a token's successor is fetched, and how long to wait after a failure.
///
/// A refresh begins at 45 to 55 % of the lifetime: a one-hour token rides out half an hour without
/// its identity service, and replicas that started together drift apart.
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
    /// The wait for a secret that is not there yet: looking costs nothing.
    pub secret_wait: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            longest_wait_expired: Duration::from_secs(10),
            refused_wait: Duration::from_secs(30),
            secret_wait: Duration::from_secs(2),
        }
    }
}

impl Schedule {
    /// How long after it was asked for a token's successor is fetched; `random` is in 0..1.
    #[must_use]
    pub fn refresh_after(&self, lifetime: Duration, random: f64) -> Duration {
        lifetime.mul_f64(0.45 + 0.1 * random.clamp(0.0, 1.0))
    }

    /// How long to wait after this many failures in a row (1 at least), `asked` being what the
    /// server's `Retry-After` says; `random` is in 0..1.
    #[must_use]
    pub fn wait_after_failure(
        &self,
        failures: u32,
        has_token: bool,
        asked: Option<Duration>,
        random: f64,
    ) -> Duration {
        let longest = if has_token {
            self.longest_wait
        } else {
            self.longest_wait_expired
        };
        let doubled = self
            .first_wait
            .saturating_mul(1 << failures.saturating_sub(1).min(16))
            .min(longest);
        let jittered = doubled.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        // A server may ask for more patience than the doubling has, up to the longest wait.
        jittered.max(asked.unwrap_or_default().min(self.longest_wait))
    }

    /// How long to wait after the credentials were refused; `random` is in 0..1.
    #[must_use]
    pub fn wait_after_refusal(&self, random: f64) -> Duration {
        self.refused_wait.mul_f64(1.0 + random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_refresh_begins_at_about_half_of_the_lifetime(seconds in 10_u64..86_400, random in 0.0..1.0) {
            let lifetime = Duration::from_secs(seconds);
            let after = Schedule::default().refresh_after(lifetime, random);
            prop_assert!(after >= lifetime.mul_f64(0.44) && after <= lifetime.mul_f64(0.56));
        }

        #[test]
        fn a_wait_after_failure_is_bounded(failures in 0_u32..u32::MAX, has_token: bool, random in 0.0..1.0) {
            let wait = Schedule::default().wait_after_failure(failures, has_token, None, random);
            prop_assert!(wait >= Duration::from_millis(500));
            let longest = Duration::from_secs(if has_token { 60 } else { 10 });
            prop_assert!(wait <= longest);
        }

        #[test]
        fn a_server_that_asks_for_patience_gets_it(asked in 0_u64..60, failures in 1_u32..20) {
            let asked = Duration::from_secs(asked);
            prop_assert!(Schedule::default().wait_after_failure(failures, true, Some(asked), 0.0) >= asked);
        }
    }
}
