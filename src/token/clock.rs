//! The time that tokens live by: the machine's two clocks, read together.
//!
//! The monotonic clock stands still while a machine sleeps, and the wall clock may be set; so a token is
//! bounded by both. A test's clock runs faster than the machine's and can be set, so that an hour of
//! tokens is over in seconds, on real sockets.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the clock that is never set.
    pub monotonic: Instant,
    /// By the clock that people read.
    pub wall: SystemTime,
}

/// Tells the time to the token engine; clones tell the same.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Rate>>);

/// How often [`Clock::reached`] looks at the wall clock.
const LOOK: Duration = Duration::from_secs(10);

/// How a test's clock differs from the machine's.
struct Rate {
    began: Moment,
    speed: u32,
    /// How far the wall clock was set, in milliseconds.
    set: AtomicI64,
}

impl Moment {
    /// The moment so much later.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self {
            monotonic: self.monotonic + by,
            wall: self.wall + by,
        }
    }
}

impl Clock {
    /// A clock that runs so many times as fast as the machine's, from now on.
    #[must_use]
    pub fn faster(speed: u32) -> Self {
        let began = Self::default().now();
        let set = AtomicI64::new(0);
        Self(Some(Arc::new(Rate { began, speed, set })))
    }

    /// Sets the wall clock forward, or back. As after a suspend, the monotonic clock knows nothing of it.
    ///
    /// # Panics
    ///
    /// The machine's own clock is not ours to set.
    pub fn set_wall(&self, by: Duration, back: bool) {
        let rate = self.0.as_ref().expect("only a test's clock is set");
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        rate.set.fetch_add(if back { -by } else { by }, Ordering::AcqRel);
    }

    /// What both clocks say.
    #[must_use]
    pub fn now(&self) -> Moment {
        let Some(rate) = &self.0 else {
            return Moment {
                monotonic: Instant::now(),
                wall: SystemTime::now(),
            };
        };
        let elapsed = rate.began.monotonic.elapsed() * rate.speed;
        let set = rate.set.load(Ordering::Acquire);
        let by = Duration::from_millis(set.unsigned_abs());
        let wall = rate.began.wall + elapsed;
        Moment {
            monotonic: rate.began.monotonic + elapsed,
            wall: if set < 0 { wall - by } else { wall + by },
        }
    }

    /// Resolves when the monotonic clock has come so far. Cancel safe.
    pub async fn sleep_until(&self, at: Instant) {
        let at = match &self.0 {
            None => at,
            Some(rate) => {
                let elapsed = at.saturating_duration_since(rate.began.monotonic);
                rate.began.monotonic + elapsed / rate.speed
            }
        };
        tokio::time::sleep_until(at).await;
    }

    /// Resolves when either clock has come so far. Cancel safe.
    ///
    /// No clock tells anybody that a machine slept or that it was set, so the wall clock is looked at
    /// now and then.
    pub async fn reached(&self, at: Moment) {
        loop {
            let now = self.now();
            if now.monotonic >= at.monotonic || now.wall >= at.wall {
                return;
            }
            self.sleep_until(at.monotonic.min(now.monotonic + LOOK)).await;
        }
    }

    /// What a future brings within `limit`, or nothing.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let speed = self.0.as_ref().map_or(1, |rate| rate.speed);
        tokio::time::timeout(limit / speed, future).await.ok()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Clock"),
            Some(rate) => write!(f, "Clock(×{})", rate.speed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_faster_clock_runs_both_clocks_and_sleeps_accordingly() {
        let clock = Clock::faster(100);
        let (began, machine) = (clock.now(), Instant::now());
        clock.sleep_until(began.monotonic + HOUR).await;
        assert_eq!(machine.elapsed(), HOUR / 100);
        let now = clock.now();
        assert_eq!(now.monotonic - began.monotonic, HOUR);
        assert_eq!(now.wall.duration_since(began.wall).unwrap(), HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_leaves_the_monotonic_one_alone() {
        let clock = Clock::faster(1);
        let began = clock.now();
        clock.set_wall(2 * HOUR, false);
        assert_eq!(clock.now().monotonic, began.monotonic);
        assert_eq!(clock.now().wall, began.wall + 2 * HOUR);
        clock.set_wall(4 * HOUR, true);
        assert_eq!(clock.now().wall, began.wall - 2 * HOUR);
    }
}
