//! The limit on connections. At the limit, the longest idle connection is closed for a new one. If none idles, new
//! connections get 503, and are closed without a response once many are being refused. None waits in silence, and none
//! takes a descriptor that calls upstream need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::fair_semaphore::{CallerId, FairSemaphore, LimitReason, Permit};
use super::idle_connections::{ConnectionPermit, IdleConnections};
use crate::problems::Problem;
use crate::server::problem::{ProblemResponse, ProxyErrorType};
use crate::telemetry::metrics::Metrics;

/// The limit on connections, over all workers. Clones share it.
#[derive(Clone)]
pub struct ConnectionLimit {
    permits: FairSemaphore,
    idle: IdleConnections,
    /// Connections beyond the limit that get a refusal at the same time.
    refusals: Arc<Semaphore>,
    /// The problem of a refusal, for a reason.
    problem_for: fn(&'static str) -> Problem,
    logged: Arc<Logged>,
}

#[derive(Default)]
struct Logged {
    refusal: LogThrottle,
    eviction: LogThrottle,
    exhaustion: LogThrottle,
}

/// The decision on an accepted connection.
pub(in super::super) enum Admission {
    /// It is served.
    Serve(ConnectionPermit),
    /// It gets one response and is closed.
    Refuse(Box<ProblemResponse>, OwnedSemaphorePermit),
    /// It is closed at once for this problem: too many are being refused already.
    Close(&'static str),
}

/// How long a new connection waits for an idle one to close: its worker may be busy for a moment.
const CLOSING: Duration = Duration::from_secs(1);

impl ConnectionLimit {
    /// A limit of so many connections, and of so many more that are refused at the same time. `problem_for` is the
    /// problem of these, for a reason.
    #[must_use]
    pub fn new(connections: usize, refusals: usize, problem_for: fn(&'static str) -> Problem) -> Self {
        Self {
            problem_for,
            permits: FairSemaphore::new(connections, 0),
            idle: IdleConnections::default(),
            refusals: Arc::new(Semaphore::new(refusals.min(Semaphore::MAX_PERMITS))),
            logged: Arc::default(),
        }
    }

    /// Decides on a connection that was accepted. Waits if an idle connection has to close first.
    pub(in super::super) async fn admit(&self, caller: Option<CallerId>, metrics: &Metrics) -> Admission {
        let reason = match self.permits.acquire(caller.clone()) {
            Ok(permit) => return self.serve(permit),
            Err(reason) => reason,
        };
        if let Some(permit) = self.evict(reason, caller, metrics).await {
            return self.serve(permit);
        }
        let problem = self.problem(reason);
        metrics.refused_connections.inc();
        metrics.count_refusal(problem.code());
        if self.logged.refusal.is_due() {
            let limit = self.permits.total();
            tracing::warn!(
                limit,
                problem = problem.code(),
                fix = problem.fix(),
                "too many connections, new ones get 503"
            );
        }
        let Ok(permit) = self.refusals.clone().try_acquire_owned() else {
            return Admission::Close(problem.code());
        };
        let problem = ProblemResponse::not_executed(ProxyErrorType::ConnectionLimitReached, problem);
        Admission::Refuse(Box::new(problem), permit)
    }

    /// Logs that the system has no resources to accept a connection.
    pub(in super::super) fn log_exhaustion(&self, error: &std::io::Error) {
        if self.logged.exhaustion.is_due() {
            tracing::warn!(%error, "cannot accept connections, open ones are served; raise LimitNOFILE or ulimit -n");
        }
    }

    fn problem(&self, reason: LimitReason) -> Problem {
        (self.problem_for)(match reason {
            LimitReason::Total | LimitReason::Caller => "too many connections at once",
            LimitReason::Share => {
                "nearly too many connections at once, and this caller already has its share"
            }
        })
    }

    fn serve(&self, permit: Permit) -> Admission {
        Admission::Serve(ConnectionPermit::new(permit, self.idle.clone()))
    }

    /// Closes the longest idle connection and returns its permit. A caller that has its full share gets the permit of
    /// one of its own connections.
    async fn evict(
        &self,
        mut reason: LimitReason,
        caller: Option<CallerId>,
        metrics: &Metrics,
    ) -> Option<Permit> {
        loop {
            let own = caller
                .as_ref()
                .filter(|caller| reason == LimitReason::Share || self.permits.has_full_share(caller));
            match tokio::time::timeout(CLOSING, self.idle.ask(own)?).await {
                Ok(Ok(mut permit)) => {
                    metrics.evicted_connections.inc();
                    if self.logged.eviction.is_due() {
                        let limit = self.permits.total();
                        let problem = self.problem(reason);
                        tracing::warn!(
                            limit,
                            problem = problem.code(),
                            fix = problem.fix(),
                            "too many connections, idle ones are closed for new ones"
                        );
                    }
                    permit.transfer(caller);
                    return Some(permit);
                }
                // It got a request and no longer idles.
                Ok(Err(_)) => match self.permits.acquire(caller.clone()) {
                    Ok(permit) => return Some(permit),
                    Err(still) => reason = still,
                },
                Err(_) => return None,
            }
        }
    }
}

/// Limits a log line that an attack would cause for every connection: one line for each episode.
#[derive(Default)]
struct LogThrottle(Mutex<Option<Instant>>);

/// Events that are closer together than this are one episode.
const EPISODE: Duration = Duration::from_secs(10);

impl LogThrottle {
    /// Records the event; whether it is the first of an episode.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        let last = self.0.lock().replace(now);
        last.is_none_or(|last| now.duration_since(last) > EPISODE)
    }
}

#[cfg(test)]
#[cfg(unix)]
impl ConnectionLimit {
    /// A permit for a connection of an unknown caller.
    pub(in super::super) fn permit(&self) -> ConnectionPermit {
        let permit = self.permits.acquire(None).expect("a permit is free");
        ConnectionPermit::new(permit, self.idle.clone())
    }

    /// Asks the longest idle connection to close.
    pub(in super::super) fn ask(&self) -> Option<tokio::sync::oneshot::Receiver<Permit>> {
        self.idle.ask(None)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::task::JoinHandle;

    use super::*;
    use crate::problems::request::too_many_connections;

    fn caller(number: u8) -> CallerId {
        CallerId::at([10, 0, 0, number].into())
    }

    async fn admit(limit: &ConnectionLimit, caller: impl Into<Option<CallerId>>) -> Admission {
        limit.admit(caller.into(), &Metrics::new()).await
    }

    async fn permit(limit: &ConnectionLimit, caller: impl Into<Option<CallerId>>) -> ConnectionPermit {
        match admit(limit, caller).await {
            Admission::Serve(permit) => permit,
            _ => panic!("there is no permit"),
        }
    }

    #[tokio::test]
    async fn beyond_the_limit_some_connections_get_503_and_the_rest_are_closed() {
        let limit = ConnectionLimit::new(2, 1, too_many_connections);
        let permits = [permit(&limit, caller(1)).await, permit(&limit, caller(1)).await];
        let Admission::Refuse(problem, refusal) = admit(&limit, caller(1)).await else {
            panic!("it is the first refusal");
        };
        assert_eq!(problem.status, 503);
        let cause = problem.problem.cause();
        assert_eq!(cause, "too many connections at once (limits.connections)");
        assert!(matches!(
            admit(&limit, caller(1)).await,
            Admission::Close("too-many-connections")
        ));
        drop(refusal);
        assert!(matches!(admit(&limit, caller(1)).await, Admission::Refuse(..)));
        drop(permits);
        assert!(matches!(admit(&limit, caller(1)).await, Admission::Serve(_)));
    }

    /// A connection that has idled for so many seconds and closes when asked.
    fn idling(permit: ConnectionPermit, seconds: u64) -> JoinHandle<()> {
        let since = tokio::time::Instant::now() - Duration::from_secs(seconds);
        let mut permit = Some(permit);
        tokio::spawn(std::future::poll_fn(move |cx| {
            if let Some(permit) = permit.as_mut().filter(|permit| !permit.is_registered()) {
                permit.register(since, cx.waker());
            }
            match permit.take_if(|permit| permit.is_asked_to_close()) {
                Some(_) => Poll::Ready(()),
                None => Poll::Pending,
            }
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_replaces_the_longest_idle_one_or_its_callers_own_at_full_share() {
        let limit = ConnectionLimit::new(4, 1, too_many_connections);
        let mut idle = Vec::new();
        // Three connections of a heavy caller, and the longest idle one of a light caller.
        for (number, seconds) in [(2, 30), (2, 20), (2, 10), (1, 40)] {
            idle.push(idling(permit(&limit, caller(number)).await, seconds));
        }
        tokio::task::yield_now().await;
        let mut held = Vec::new();
        for (number, closed) in [(2, 0), (3, 3), (3, 1), (4, 2)] {
            held.push(permit(&limit, caller(number)).await);
            let ended = idle.iter().position(JoinHandle::is_finished);
            assert_eq!(ended, Some(closed), "{number}");
            idle[closed] = tokio::spawn(std::future::pending());
        }
        assert!(matches!(admit(&limit, caller(5)).await, Admission::Refuse(..)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_is_refused_if_the_idle_one_does_not_close_in_time() {
        let limit = ConnectionLimit::new(1, 1, too_many_connections);
        let mut stuck = permit(&limit, None).await;
        stuck.register(tokio::time::Instant::now(), std::task::Waker::noop());
        assert!(matches!(admit(&limit, None).await, Admission::Refuse(..)));
        assert!(stuck.is_asked_to_close());
        drop(stuck);
        assert!(
            matches!(admit(&limit, None).await, Admission::Serve(_)),
            "its permit is free"
        );
    }

    #[test]
    fn an_episode_is_logged_once() {
        let throttle = LogThrottle::default();
        assert!(throttle.is_due() && !throttle.is_due() && !throttle.is_due());
    }
}
