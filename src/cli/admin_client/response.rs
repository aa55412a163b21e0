//! One request and its response, on a connection with a time limit.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use socket2::Socket;

/// A response of the admin listener.
pub(in crate::cli) struct Response {
    pub(in crate::cli) status: u16,
    pub(in crate::cli) body: String,
    /// Why the end of the body is missing.
    pub(in crate::cli) incomplete: Option<String>,
}

const MAX_RESPONSE: u64 = 4 << 20;

/// Sends a request and reads the response.
pub(super) fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<Response> {
    // In one piece: a program that is not bondgate may end the connection after the first.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let read = stream.take(MAX_RESPONSE + 1).read_to_end(&mut bytes);
    let ended = match read {
        Ok(_) if bytes.len() as u64 > MAX_RESPONSE => Err(io::Error::other(format!(
            "it is longer than {} MiB",
            MAX_RESPONSE >> 20
        ))),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match (parse(&bytes, ended.as_ref().err()), ended) {
        (Some(response), _) => Ok(response),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the response is not HTTP",
        )),
    }
}

/// The response in the bytes that were read until the connection or an error ended it. Content-Length says whether its
/// body is complete (RFC 9112 section 6.3); without it, the end of the connection is the end of the body.
fn parse(bytes: &[u8], error: Option<&io::Error>) -> Option<Response> {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let body = &bytes[end + 4..];
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|(_, length)| length.trim().parse().ok());
    let is_complete = length.map_or(error.is_none(), |length: usize| body.len() >= length);
    let incomplete = (!is_complete).then(|| match (error, length) {
        // The error of TLS names pages of its library.
        (Some(error), _) if error.kind() != io::ErrorKind::UnexpectedEof => error.to_string(),
        (_, Some(length)) => format!("it ends after {} of {length} bytes", body.len()),
        (_, None) => "the connection was cut".to_owned(),
    });
    Some(Response {
        status,
        body: String::from_utf8_lossy(body).into_owned(),
        incomplete,
    })
}

/// A socket whose reads and writes end at a deadline.
pub(super) struct Limited {
    pub(super) socket: Socket,
    pub(super) deadline: Instant,
}

impl Limited {
    fn rest(&self) -> io::Result<Option<Duration>> {
        let rest = self.deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no response within 2 s"));
        }
        Ok(Some(rest))
    }
}

/// The system reports the end of a socket's timeout as "Resource temporarily unavailable".
fn late(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no response within 2 s"),
        _ => error,
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(self.rest()?)?;
        self.socket.read(buffer).map_err(late)
    }
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(self.rest()?)?;
        self.socket.write(bytes).map_err(late)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_complete_by_its_length_or_by_the_end_of_the_connection() {
        let late = || Some(io::Error::from(io::ErrorKind::TimedOut));
        let cut = || Some(io::Error::from(io::ErrorKind::UnexpectedEof));
        for (bytes, error, incomplete) in [
            ("content-length: 2\r\n\r\nab", None, None),
            ("Content-Length: 2\r\n\r\nab", late(), None),
            (
                "Content-Length: 3\r\n\r\nab",
                None,
                Some("it ends after 2 of 3 bytes"),
            ),
            (
                "Content-Length: 3\r\n\r\nab",
                cut(),
                Some("it ends after 2 of 3 bytes"),
            ),
            ("Content-Length: 3\r\n\r\nab", late(), Some("timed out")),
            ("A: b\r\n\r\nab", None, None),
            ("A: b\r\n\r\nab", cut(), Some("the connection was cut")),
        ] {
            let response = format!("HTTP/1.0 200 OK\r\n{bytes}");
            let response = parse(response.as_bytes(), error.as_ref()).unwrap();
            assert_eq!(response.incomplete.as_deref(), incomplete, "{bytes:?}");
            assert_eq!((response.status, response.body.as_str()), (200, "ab"));
        }
        assert!(parse(b"HTTP/1.0 200 OK\r\nA: b", None).is_none());
    }
}
