//! The refresher on a paused clock, with scripted token sources.

mod credentials;
mod rejections;
mod repeated_tokens;
mod schedule;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::*;
use crate::problems::Problem;
use crate::telemetry::metrics::Metrics;
use crate::token::TokenState;

/// Responds from a list, the last entry for ever, and records the time of each request.
#[derive(Clone)]
struct Script {
    answers: Arc<Mutex<VecDeque<Result<u64, FetchErrorKind>>>>,
    requests: Arc<Mutex<Vec<Duration>>>,
    began: Instant,
    /// What reading the credentials finds, one after the other.
    checks: Arc<Mutex<VecDeque<Result<bool, FetchError>>>>,
    /// Notified when the credentials change.
    changed: Arc<Notify>,
    /// How long a response takes.
    slow: Duration,
}

impl TokenSource for Script {
    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn check(&self) -> Result<bool, FetchError> {
        self.checks.lock().unwrap().pop_front().unwrap_or(Ok(false))
    }

    async fn fetch(&self) -> Result<Grant, FetchError> {
        self.requests.lock().unwrap().push(self.began.elapsed());
        tokio::time::sleep(self.slow).await;
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().copied()
        };
        match answer.unwrap() {
            // Each token differs.
            Ok(seconds) => {
                let token = format!("t{}", self.requests().len());
                Ok(Grant::for_tests(&token, Duration::from_secs(seconds)))
            }
            Err(kind) => Err(kind.error(problems::cut_short("scripted"))),
        }
    }
}

impl Script {
    fn requests(&self) -> Vec<Duration> {
        self.requests.lock().unwrap().clone()
    }

    /// The waits between one fetch and the next.
    fn waits(&self) -> Vec<Duration> {
        let requests = self.requests();
        requests
            .windows(2)
            .map(|pair| pair[1].saturating_sub(pair[0]))
            .collect()
    }
}

fn start(answers: &[Result<u64, FetchErrorKind>]) -> (Script, TokenReader) {
    start_with(answers, Clock::faster(1), Duration::ZERO)
}

fn start_with(
    answers: &[Result<u64, FetchErrorKind>],
    clock: Clock,
    slow: Duration,
) -> (Script, TokenReader) {
    let script = Script {
        answers: Arc::new(Mutex::new(answers.iter().copied().collect())),
        requests: Arc::default(),
        began: Instant::now(),
        checks: Arc::default(),
        changed: Arc::default(),
        slow,
    };
    let reader = spawn(script.clone(), clock);
    (script, reader)
}

fn spawn(source: impl TokenSource + Send + Sync + 'static, clock: Clock) -> TokenReader {
    let metrics = Metrics::new().upstream("test");
    let (reader, refresher) = Refresher::new("test", source, clock, metrics, None);
    tokio::spawn(refresher.run());
    reader
}

const SECOND: Duration = Duration::from_secs(1);

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}
