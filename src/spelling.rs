//! How the names of a head's fields are spelled: read and written for those who store a head.
//!
//! hyper notes the spelling in an extension of a message that no one else can open. So a head is written by hyper into
//! memory to be read here, or read by hyper from there.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::task::coop::unconstrained;

/// More fields than any head has that is passed on.
const MOST_FIELDS: usize = 2000;

/// The names of `headers`, one for each line and in their order, as a message with these extensions spells them.
#[must_use]
pub fn names(headers: &HeaderMap, extensions: &Extensions) -> Vec<String> {
    let mut request = Request::new(Empty::new());
    *request.headers_mut() = headers.clone();
    *request.extensions_mut() = extensions.clone();
    let written = exchange(request, Vec::new()).1;
    let mut lines = written.split(|byte| *byte == b'\n').skip(1);
    let spelled = |line: &[u8]| {
        let end = line.iter().position(|byte| *byte == b':')?;
        String::from_utf8(line[..end].to_vec()).ok()
    };
    headers
        .iter()
        .map(|(name, _)| {
            lines
                .next()
                .and_then(spelled)
                .filter(|spelled| spelled.eq_ignore_ascii_case(name.as_str()))
                .unwrap_or_else(|| title_case(name.as_str()))
        })
        .collect()
}

/// Extensions that have hyper spell names as these are, where it would not do so anyway.
#[must_use]
pub fn extensions<'a>(names: impl IntoIterator<Item = &'a str>) -> Extensions {
    let mut head = b"HTTP/1.1 204 No Content\r\n".to_vec();
    let mut is_as_usual = true;
    for name in names {
        is_as_usual &= title_case(name) == name;
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b":\r\n");
    }
    head.extend_from_slice(b"\r\n");
    if is_as_usual {
        return Extensions::new();
    }
    let read = exchange(Request::new(Empty::new()), head).0;
    read.map(|response| response.into_parts().0.extensions)
        .unwrap_or_default()
}

/// A name as it is written where nobody spelled it: `Content-Length`.
#[must_use]
pub fn title_case(name: &str) -> String {
    let mut before = '-';
    name.chars()
        .map(|c| {
            let is_first = before == '-';
            before = c;
            if is_first {
                c.to_ascii_uppercase()
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Has hyper send a request into memory and read its response from there: the response, and what was written.
fn exchange(request: Request<Empty<Bytes>>, input: Vec<u8>) -> (Option<Response<Incoming>>, Vec<u8>) {
    let memory = Memory {
        input: input.into(),
        output: Vec::new(),
    };
    let exchanged = async {
        let (mut sender, mut connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_headers(MOST_FIELDS)
            .handshake(memory)
            .await
            .ok()?;
        let mut response = pin!(sender.send_request(request));
        let response = std::future::poll_fn(|cx| {
            // It writes, and then it reads.
            for _ in 0..2 {
                let _ = Pin::new(&mut connection).poll(cx);
            }
            Poll::Ready(match response.as_mut().poll(cx) {
                Poll::Ready(response) => response.ok(),
                Poll::Pending => None,
            })
        });
        Some((response.await, connection.into_parts().io.output))
    };
    // Nothing in memory is waited for, nor a share of the task's turn.
    let exchanged = pin!(unconstrained(exchanged));
    match exchanged.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(exchanged)) => exchanged,
        Poll::Ready(None) | Poll::Pending => (None, Vec::new()),
    }
}

/// A connection to nobody.
struct Memory {
    input: Bytes,
    output: Vec<u8>,
}

impl Read for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // A response that comes before its request is none.
        if self.input.is_empty() || self.output.is_empty() {
            return Poll::Pending;
        }
        let count = self.input.len().min(out.remaining());
        out.put_slice(&self.input.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl Write for Memory {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(names: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for name in names {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_static("a: b"));
        }
        headers
    }

    #[test]
    fn names_come_back_as_they_were_spelled() {
        let many = (0..1500).map(|number| format!("x-DEBUG-{number}")).collect();
        for spelled in [
            [
                "ETag",
                "etag",
                "ETAG",
                "X-mixed-CASE",
                "content-length",
                "Any_Name",
            ]
            .map(str::to_owned)
            .into(),
            vec!["Content-Type".to_owned(), "Date".to_owned()],
            Vec::new(),
            many,
        ] {
            let extensions = extensions(spelled.iter().map(String::as_str));
            assert_eq!(names(&headers(&spelled), &extensions), spelled);
        }
    }

    #[test]
    fn a_name_that_nobody_spelled_is_in_title_case() {
        let names = names(
            &headers(&["www-authenticate".to_owned(), "x-a".to_owned()]),
            &extensions(["WWW-Authenticate"]),
        );
        assert_eq!(names, ["WWW-Authenticate", "X-A"]);
    }

    #[test]
    fn what_is_no_name_changes_nothing() {
        assert!(extensions(["no name"]).is_empty());
    }
}
