//! When the outcome of a message's delivery is recorded.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::stand;
use crate::config::Limits;
use crate::problems::request::bug;
use crate::server::delivery_observer::{DeliveryObserver, Recording};
use crate::server::problem::{ProblemResponse, ProxyErrorType};

/// Keeps when an outcome was recorded, and which.
struct Recorder(watch::Sender<Option<(Instant, bool)>>);

impl DeliveryObserver for Recorder {
    fn poll_asked(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn is_connected(&mut self) {}

    fn settle(&self) -> Duration {
        Duration::MAX
    }

    fn is_relayed(&self) -> bool {
        false
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn record(self: Box<Self>, is_delivered: bool) -> Recording {
        self.0.send_replace(Some((Instant::now(), is_delivered)));
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_delivery_is_recorded_before_the_caller_takes_the_response_in_place_of_it() {
    let mut stand = stand(None);
    let (sender, recorded) = watch::channel(None);
    stand.filter.observer = Some(Box::new(Recorder(sender)));
    let problem = ProblemResponse::may_have_been_executed(
        http::StatusCode::BAD_GATEWAY,
        ProxyErrorType::ProxyInternalError,
        bug("it cannot be written"),
    );
    stand.connection.lock().replace_response(problem);
    let began = Instant::now();
    // The caller keeps its connection open.
    stand.filter.close(std::future::pending()).await.unwrap();
    assert!(began.elapsed() > Duration::from_secs(1));
    assert_eq!(*recorded.borrow(), Some((began, false)));
}

#[tokio::test(start_paused = true)]
async fn the_pause_before_the_tail_of_a_message_does_not_count_as_a_stall() {
    let mut stand = stand(None);
    let stall = Duration::from_millis(3);
    let limits = &mut stand.filter.limits;
    *limits = Arc::new(Limits { stall, ..**limits });
    let (sender, recorded) = watch::channel(None);
    stand.filter.observer = Some(Box::new(Recorder(sender)));
    stand.filter.write_all(&[b'x'; 2 << 10]).await.unwrap();
    stand.caller.set_nonblocking(true).unwrap();
    let mut caller = tokio::net::UnixStream::from_std(stand.caller).unwrap();
    let mut response = Vec::new();
    let read = async {
        caller.read_to_end(&mut response).await.unwrap();
        caller.shutdown().await.unwrap();
    };
    let (closed, ()) = tokio::join!(stand.filter.close(std::future::pending()), read);
    closed.unwrap();
    assert_eq!(response.len(), 2 << 10);
    assert_eq!(
        recorded.borrow().map(|(_, is_delivered)| is_delivered),
        Some(true)
    );
}
