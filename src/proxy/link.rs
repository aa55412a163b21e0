//! One connection to an upstream, driven by whoever has a request on it: no task of its own, so that a request
//! and its answer cross no channel between tasks.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::body::Upload;
use super::connect::Connected;
use super::keep_alive;
use super::pool::Pool;
use super::socket::{self, Head};

/// A connection that takes one request after the other.
pub(super) struct Link {
    sender: http1::SendRequest<Box<Upload>>,
    /// Nothing once it is over.
    connection: Option<Box<http1::Connection<Connected, Box<Upload>>>>,
    head: Head,
    news: Arc<News>,
    /// When it is too old for another request.
    expires: Instant,
    /// How long it may idle by the upstream's word.
    idle_limit: Duration,
}

/// Whether something may have happened on a connection since it was driven on its own behalf.
struct News(AtomicBool);

impl Wake for News {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A request without an answer.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// The request, where none of it was sent.
    pub(super) unsent: Option<Request<Box<Upload>>>,
}

/// How much is read at once.
const BUFFER: usize = 64 << 10;
/// The most bytes in the head of a response.
const LONGEST_HEAD: usize = 64 << 10;
/// The most fields in the head of a response: gateways add some hundred when somebody debugs them.
const MOST_FIELDS: usize = 1000;

/// How long a connection may take to end.
const LAST_WORD: Duration = Duration::from_secs(5);

impl Link {
    /// Speaks HTTP over a connection that is for requests until it expires.
    pub(super) async fn over(stream: Connected, expires: Instant) -> hyper::Result<Self> {
        let head = socket::head(&stream);
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .max_header_size(LONGEST_HEAD)
            .max_headers(MOST_FIELDS)
            // What RFC 9112 §5 has a proxy mend. A line that hyper would have to drop unread is refused: it could
            // hold framing.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .preserve_header_case(true)
            .title_case_headers(true)
            .handshake(stream)
            .await?;
        Ok(Self {
            sender,
            connection: Some(Box::new(connection)),
            head,
            // It was never driven.
            news: Arc::new(News(AtomicBool::new(true))),
            expires,
            idle_limit: Duration::MAX,
        })
    }

    /// Until when it may idle from now on, for `keep_alive` at most; nothing where it is not to take another request.
    pub(super) fn idles_until(&self, now: Instant, keep_alive: Duration) -> Option<Instant> {
        let until = now + self.idle_limit.min(keep_alive);
        Some(until.min(self.expires)).filter(|until| *until > now)
    }

    /// Lets the connection go on with whatever is to be read and written; ready when it is over.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.connection {
            // How it ended is told to whoever waits for an answer or a body.
            let _ = ready!(Pin::new(&mut **connection).poll(cx));
            self.connection = None;
        }
        Poll::Ready(())
    }

    /// Whether the connection can take a request, as far as can be known without sending one.
    pub(super) fn is_usable(&mut self) -> bool {
        self.news.0.store(false, Ordering::Release);
        let waker = Waker::from(self.news.clone());
        self.drive(&mut Context::from_waker(&waker)).is_pending() && self.sender.is_ready()
    }

    /// Whether a connection that was usable still is.
    pub(super) fn is_still_usable(&mut self) -> bool {
        !self.news.0.load(Ordering::Acquire) || self.is_usable()
    }

    /// Ends the connection in good order: TLS has a last word.
    pub(super) fn close(self) {
        let Self {
            sender, connection, ..
        } = self;
        drop(sender);
        if let Some(connection) = connection {
            tokio::spawn(tokio::time::timeout(LAST_WORD, connection));
        }
    }

    /// Sends a request. Once the answer's body has come to its end, the connection goes into `pool`.
    pub(super) async fn ask(
        mut self,
        request: Request<Box<Upload>>,
        pool: Option<&Pool>,
    ) -> Result<Response<Arriving>, Unanswered> {
        self.head.begins();
        // Its share of the task's turn is the connection's: one that has used it up would wait for a waker.
        let mut answer = std::pin::pin!(unconstrained(self.sender.try_send_request(request)));
        let answered = std::future::poll_fn(|cx| {
            let _ = self.drive(cx);
            // Only the connection can answer, and it has just had its turn: nobody needs to be woken.
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        match answered.await {
            Ok(response) => {
                self.head.ends();
                if let Some(limit) = keep_alive::idle_limit(response.headers()) {
                    self.idle_limit = limit;
                }
                let mut response = response.map(|body| Arriving {
                    body,
                    link: Some(self),
                    pool: pool.cloned(),
                });
                if response.body().is_end_stream() {
                    response.body_mut().release();
                }
                Ok(response)
            }
            Err(mut failed) => Err(Unanswered {
                unsent: failed.take_message(),
                error: failed.into_error(),
            }),
        }
    }
}

/// An answer's body on its way, and the connection that it comes by.
pub(super) struct Arriving {
    body: Incoming,
    /// Nothing once the body is at its end, or the connection is over.
    link: Option<Link>,
    pool: Option<Pool>,
}

impl Arriving {
    /// The body is at its end: the connection may serve another request, if it agrees.
    fn release(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let is_usable = link.is_usable();
        match &self.pool {
            Some(pool) if is_usable => pool.put(link),
            _ => link.close(),
        }
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let arriving = self.get_mut();
        let mut polled = Pin::new(&mut arriving.body).poll_frame(cx);
        if polled.is_pending()
            && let Some(link) = &mut arriving.link
        {
            // That somebody asks for more is known to the connection now.
            if link.drive(cx).is_ready() {
                arriving.link = None;
            }
            polled = Pin::new(&mut arriving.body).poll_frame(cx);
        }
        let is_over = match &polled {
            Poll::Ready(Some(Ok(_))) => arriving.body.is_end_stream(),
            Poll::Ready(Some(Err(_)) | None) => true,
            Poll::Pending => false,
        };
        if is_over {
            arriving.release();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
