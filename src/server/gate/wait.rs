//! How long the gate waits for a request's head, and when a stop ends the wait.

use std::task::Context;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::super::answer::Answer;
use super::super::listener::Wire;
use super::{Gate, Next};

/// What the timer measures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The connection is new and silent.
    FirstByte,
    /// The same, in a drain.
    LastCall,
    /// A head has begun.
    Head,
    /// Between two requests.
    KeepAlive,
    /// Between two requests, with hyper's state still there.
    Park,
}

/// How long a connection idles before hyper's state is dropped.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(1);
/// How long a drain waits for the first byte of a caller that had come before.
const LAST_CALL: Duration = Duration::from_secs(2);

impl<S: Wire> Gate<S> {
    pub(super) fn arm(&mut self, wait: Wait, after: Duration) {
        self.wait = wait;
        self.timer.as_mut().reset(Instant::now() + after);
    }

    /// What a stop makes of a wait. A drain ends what idles and nothing else: a caller that has begun a
    /// head, or has just come, or had its answer within the last second, counts on being heard. At the
    /// deadline whoever has begun gets an answer.
    pub(super) fn heed_stop(&mut self) -> Option<Next> {
        if self.exchange.is_over() {
            return Some(if self.input.is_empty() {
                Next::End
            } else {
                self.refuse(stopping())
            });
        }
        // The runtime may not know yet what has come; it tells of it soon.
        if !self.exchange.is_draining() || self.stream.unread() > 0 {
            return None;
        }
        match self.wait {
            Wait::KeepAlive => return Some(Next::End),
            Wait::FirstByte => self.arm(Wait::LastCall, LAST_CALL),
            Wait::LastCall | Wait::Head | Wait::Park => {}
        }
        None
    }

    /// Whether the connection ends to make room for another. It registers while it idles; what was asked is heeded
    /// only while nothing has come, and nobody waits to hear what becomes of an answer.
    pub(super) fn makes_room(&mut self, cx: &Context<'_>) -> bool {
        let Some(idle) = &mut self.idle else { return false };
        let idled = match self.wait {
            Wait::KeepAlive => PARK_AFTER,
            Wait::Park if idle.is_registered() || idle.is_due_early() => Duration::ZERO,
            _ => return idle.is_asked(),
        };
        if !self.input.is_empty() || self.delivery.is_pending() {
            idle.leave();
            return false;
        }
        if !idle.is_asked() {
            if !idle.is_registered() {
                let now = Instant::now();
                idle.enter(now.checked_sub(idled).unwrap_or(now), cx.waker());
            }
            return false;
        }
        // The runtime may not know yet what has come.
        if self.stream.unread() > 0 {
            idle.leave();
            return false;
        }
        true
    }

    /// Something has come.
    pub(super) fn stop_idling(&mut self) {
        if let Some(idle) = &mut self.idle {
            idle.leave();
        }
    }

    pub(super) fn time_is_up(&mut self) -> Next {
        match self.wait {
            Wait::Head => {
                let limit = humantime::format_duration(self.limits.first_byte);
                let detail = format!(
                    "the request's head took longer than {limit} (limits.first_byte); send it at once"
                );
                self.refuse(Answer::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "http_request_error",
                    detail,
                ))
            }
            Wait::Park => {
                self.is_parked = true;
                Next::End
            }
            // Silence is left without a word.
            Wait::FirstByte | Wait::LastCall | Wait::KeepAlive => Next::End,
        }
    }
}

fn stopping() -> Answer {
    let detail = "bondgate is stopping, and the request's head was not whole; nothing was sent, and it is safe to send it again";
    Answer::unavailable("proxy_internal_response", detail, Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf};

    use tokio::sync::oneshot::error::TryRecvError;

    use super::super::Exchange;
    use super::*;
    use crate::config::Config;
    use crate::server::crowd::Crowd;
    use crate::server::idle::Registration;
    use crate::server::places::Place;

    /// A caller's connection without a system: `at_hand` is what has come and the runtime does not know.
    struct Fake {
        stream: DuplexStream,
        at_hand: Arc<AtomicU64>,
    }

    impl Wire for Fake {
        fn reset(&self) {}

        fn finish(&self) {}

        fn cork(&self) {}

        fn unsent(&self) -> usize {
            0
        }

        fn unacknowledged(&self) -> usize {
            0
        }

        fn unread(&self) -> u64 {
            self.at_hand.load(Ordering::Relaxed)
        }

        fn is_reset(&self) -> bool {
            false
        }
    }

    impl AsyncRead for Fake {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, out)
        }
    }

    impl AsyncWrite for Fake {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.stream).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    struct Stand {
        gate: Gate<Fake>,
        exchange: Arc<Exchange>,
        at_hand: Arc<AtomicU64>,
        caller: DuplexStream,
    }

    fn stand() -> Stand {
        let text =
            "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n";
        let limits = Config::parse(text, "test.toml", []).unwrap().limits;
        let (caller, stream) = tokio::io::duplex(4096);
        let (exchange, at_hand) = (Arc::<Exchange>::default(), Arc::<AtomicU64>::default());
        let fake = Fake {
            stream,
            at_hand: at_hand.clone(),
        };
        Stand {
            gate: Gate::new(fake, Arc::new(limits), exchange.clone()),
            exchange,
            at_hand,
            caller,
        }
    }

    /// How long the gate waits, and for what.
    async fn waited(gate: &mut Gate<Fake>) -> (Duration, Next) {
        let began = Instant::now();
        let next = gate.next().await;
        (began.elapsed(), next)
    }

    const NOW: Duration = Duration::ZERO;

    #[tokio::test(start_paused = true)]
    async fn in_a_drain_a_parked_connection_ends_unless_something_has_come() {
        let mut stand = stand();
        stand.gate.is_parked = true;
        stand.exchange.drain();
        stand.at_hand.store(18, Ordering::Relaxed);
        let soon = Duration::from_millis(3);
        let late = async {
            tokio::time::sleep(soon).await;
            stand
                .caller
                .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await
                .unwrap();
        };
        let (waited_for, ()) = tokio::join!(waited(&mut stand.gate), late);
        assert!(waited_for.0 >= soon && waited_for.1 == Next::Request);

        let mut stand = self::stand();
        stand.gate.is_parked = true;
        stand.exchange.drain();
        assert_eq!(waited(&mut stand.gate).await, (NOW, Next::End));
    }

    /// A stand whose connection may be asked to make room, of so many places, and the one who may ask.
    fn registered(connections: usize, taken: usize) -> (Stand, Crowd, Vec<Place>) {
        let crowd = Crowd::new(connections, 1);
        let places = (0..taken).map(|_| crowd.place()).collect();
        let mut stand = stand();
        let registration = Registration::new(crowd.idle.clone(), None);
        stand.gate = stand.gate.with_registration(registration);
        (stand, crowd, places)
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_connection_ends_when_it_is_asked_to_make_room() {
        let (mut stand, crowd, _places) = registered(4, 1);
        stand.gate.is_parked = true;
        let soon = Duration::from_millis(3);
        let ask = async {
            tokio::time::sleep(soon).await;
            let asked = crowd.idle.ask(None);
            assert!(asked.is_some(), "it idles");
            asked
        };
        let (waited_for, _place) = tokio::join!(waited(&mut stand.gate), ask);
        assert_eq!(waited_for, (soon, Next::End));
        assert!(stand.gate.take_successor().is_some() && stand.gate.refusal().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_on_which_something_has_come_declines_and_serves_it() {
        for is_read in [false, true] {
            let (mut stand, crowd, _places) = registered(4, 1);
            stand.gate.is_parked = true;
            let late = async {
                tokio::time::sleep(Duration::from_millis(3)).await;
                let mut place = crowd.idle.ask(None).expect("it idles");
                if is_read {
                    // The runtime knows of it when the connection sees that it was asked.
                    stand.caller.write_all(b"GET").await.unwrap();
                } else {
                    stand.at_hand.store(3, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
                assert!(matches!(place.try_recv(), Err(TryRecvError::Closed)), "{is_read}");
                stand.at_hand.store(0, Ordering::Relaxed);
                let rest = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
                let rest = if is_read { &rest[3..] } else { rest };
                stand.caller.write_all(rest).await.unwrap();
            };
            let (waited_for, ()) = tokio::join!(waited(&mut stand.gate), late);
            assert_eq!(waited_for.1, Next::Request);
            assert!(stand.gate.take_successor().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_asked_before_it_is_parked_only_while_places_are_scarce() {
        for (taken, is_asked) in [(2, false), (3, true)] {
            let (mut stand, crowd, _places) = registered(4, taken);
            stand.gate.arm(Wait::Park, PARK_AFTER);
            let ask = async {
                tokio::time::sleep(PARK_AFTER / 2).await;
                crowd.idle.ask(None)
            };
            let (waited_for, asked) = tokio::join!(waited(&mut stand.gate), ask);
            assert_eq!(asked.is_some(), is_asked);
            let expected = if is_asked { PARK_AFTER / 2 } else { PARK_AFTER };
            assert!(
                waited_for.0.abs_diff(expected) < Duration::from_millis(10),
                "{waited_for:?}"
            );
            assert_eq!(stand.gate.is_parked(), !is_asked);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_just_come_or_has_begun_a_head_is_never_asked() {
        for begun in [&b""[..], b"GET / HT"] {
            let (mut stand, crowd, _places) = registered(4, 4);
            stand.caller.write_all(begun).await.unwrap();
            let ask = async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                assert!(crowd.idle.ask(None).is_none());
            };
            tokio::join!(waited(&mut stand.gate), ask);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_for_five_minutes_by_default() {
        let mut idle = stand();
        idle.gate.arm(Wait::Park, PARK_AFTER);
        let (parked_after, next) = waited(&mut idle.gate).await;
        assert!(next == Next::End && idle.gate.is_parked());
        let (kept_for, next) = waited(&mut idle.gate).await;
        assert!(next == Next::End && !idle.gate.is_parked());
        let all = parked_after + kept_for;
        assert!(
            all.abs_diff(Duration::from_secs(300)) < Duration::from_millis(10),
            "{all:?}"
        );

        // A poller that comes every 80 s is served each time.
        let mut poller = stand();
        poller.gate.is_parked = true;
        let later = async {
            tokio::time::sleep(Duration::from_secs(80)).await;
            let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
            poller.caller.write_all(request).await.unwrap();
        };
        let ((_, next), ()) = tokio::join!(waited(&mut poller.gate), later);
        assert_eq!(next, Next::Request);
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_drain_a_new_connection_is_waited_for_a_moment() {
        let mut stand = stand();
        stand.exchange.drain();
        let (time, next) = waited(&mut stand.gate).await;
        assert!(
            time >= LAST_CALL && time < LAST_CALL * 2 && next == Next::End,
            "{time:?}"
        );
        assert!(stand.gate.refusal().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_drain_a_connection_that_was_just_answered_is_waited_for_until_it_is_parked() {
        let mut stand = stand();
        stand.gate.arm(Wait::Park, PARK_AFTER);
        stand.exchange.drain();
        let (time, next) = waited(&mut stand.gate).await;
        assert!(time >= PARK_AFTER && next == Next::End, "{time:?}");
        assert!(stand.gate.is_parked());
        assert_eq!(waited(&mut stand.gate).await, (NOW, Next::End));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_is_waited_for_in_a_drain_and_answered_at_the_deadline() {
        let mut stand = stand();
        stand.exchange.drain();
        stand.caller.write_all(b"GET / HT").await.unwrap();
        let limit = stand.gate.limits.first_byte;
        let (time, next) = waited(&mut stand.gate).await;
        assert!(time >= limit && next == Next::End, "{time:?}");
        assert_eq!(stand.gate.refusal().unwrap().status, 408);

        let mut stand = self::stand();
        stand.caller.write_all(b"GET / HT").await.unwrap();
        stand.exchange.drain();
        stand.exchange.end();
        assert_eq!(waited(&mut stand.gate).await, (NOW, Next::End));
        stand.gate.close(std::future::pending()).await;
        let mut answer = String::new();
        stand.caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}
