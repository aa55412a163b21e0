//! The clock of the token engine: the machine's monotonic and wall clock, read together.
//!
//! The monotonic clock stands still while a machine sleeps, and the wall clock may be set; a token is bounded by both.
//! A test clock runs faster than the machine's and can be set.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The same moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the monotonic clock.
    pub monotonic: Instant,
    /// By the wall clock.
    pub wall: SystemTime,
}

/// The clock of the token engine; clones share one time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<TestClock>>);

/// How often [`Clock::reached`] reads the wall clock.
const WALL_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct TestClock {
    speed: u32,
    start: Instant,
    /// The wall clock's time at the start; moved when the wall clock is set.
    start_wall: Mutex<SystemTime>,
}

impl Moment {
    /// The moment `by` later.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self {
            monotonic: self.monotonic + by,
            wall: self.wall + by,
        }
    }
}

impl Clock {
    /// A test clock that runs `speed` times as fast as the machine's, starting now.
    #[must_use]
    pub fn faster(speed: u32) -> Self {
        let start_wall = Mutex::new(SystemTime::now());
        let start = Instant::now();
        Self(Some(Arc::new(TestClock {
            speed,
            start,
            start_wall,
        })))
    }

    /// Sets the wall clock of a test clock forward or back. The monotonic clock stays, as after a suspend.
    ///
    /// # Panics
    ///
    /// If this is the machine's own clock.
    pub fn set_wall(&self, by: Duration, back: bool) {
        let test = self.0.as_ref().expect("only a test clock can be set");
        let mut wall = test.start_wall.lock();
        *wall = if back { *wall - by } else { *wall + by };
    }

    /// The time on both clocks.
    #[must_use]
    pub fn now(&self) -> Moment {
        let Some(test) = &self.0 else {
            return Moment {
                monotonic: Instant::now(),
                wall: SystemTime::now(),
            };
        };
        let start = Moment {
            monotonic: test.start,
            wall: *test.start_wall.lock(),
        };
        start.after(test.start.elapsed() * test.speed)
    }

    /// Resolves when the monotonic clock reaches `at`. Cancel safe.
    pub async fn sleep_until(&self, at: Instant) {
        let at = match &self.0 {
            None => at,
            Some(test) => test.start + at.saturating_duration_since(test.start) / test.speed,
        };
        tokio::time::sleep_until(at).await;
    }

    /// Resolves when either clock reaches `at`. Cancel safe.
    ///
    /// No timer fires when a machine wakes up or its wall clock is set, so the wall clock is read every 10 s.
    pub async fn reached(&self, at: Moment) {
        let mut now = self.now();
        while now.monotonic < at.monotonic && now.wall < at.wall {
            let next_look = now.monotonic + WALL_INTERVAL;
            self.sleep_until(at.monotonic.min(next_look)).await;
            now = self.now();
        }
    }

    /// The future's output, or `None` after `limit`.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let speed = self.0.as_ref().map_or(1, |test| test.speed);
        tokio::time::timeout(limit / speed, future).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_test_clock_runs_both_clocks_and_its_sleeps_faster() {
        let clock = Clock::faster(100);
        let (began, machine) = (clock.now(), Instant::now());
        clock.sleep_until(began.monotonic + HOUR).await;
        assert_eq!(machine.elapsed(), HOUR / 100);
        let now = clock.now();
        assert_eq!(now.monotonic - began.monotonic, HOUR);
        assert_eq!(now.wall.duration_since(began.wall).unwrap(), HOUR);
    }

    #[tokio::test(start_paused = true)]
    async fn setting_the_wall_clock_does_not_change_the_monotonic_clock() {
        let clock = Clock::faster(1);
        let began = clock.now();
        clock.set_wall(2 * HOUR, false);
        assert_eq!(clock.now().monotonic, began.monotonic);
        assert_eq!(clock.now().wall, began.wall + 2 * HOUR);
        clock.set_wall(4 * HOUR, true);
        assert_eq!(clock.now().wall, began.wall - 2 * HOUR);
    }
}
