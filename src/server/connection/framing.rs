//! Finds the end of a request body (RFC 9112 §6), so that no byte after it is taken for a part of it, or the reverse.

use super::refusal_responses::{body_too_long, malformed};
use crate::server::problem::ProblemResponse;

/// How the body of a request is delimited, and the part of it that has not arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// `Content-Length`, or no body: the remaining bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunked),
}

/// The state of chunked coding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    at: At,
    /// Digits of the chunk's size so far.
    digits: u8,
    /// The chunk's size so far, and then the part of its data that has not arrived.
    left: u64,
    /// Data bytes so far.
    seen: u64,
    /// The most data bytes, 0 for no limit.
    limit: u64,
    /// Bytes of extensions and trailers so far.
    extras: usize,
    /// Trailer fields so far.
    trailers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

/// The most bytes of extensions and trailers in one body.
const EXTRAS: usize = 8 << 10;
/// The most trailer fields of one body; hyper accepts 100.
const TRAILERS: usize = 64;

impl Framing {
    pub(super) fn chunked(limit: u64) -> Self {
        Self::Chunked(Chunked {
            at: At::Size,
            digits: 0,
            left: 0,
            seen: 0,
            limit,
            extras: 0,
            trailers: 0,
        })
    }

    /// Whether the body is complete.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.at == At::Done,
        }
    }

    /// Returns how many of the next bytes belong to the body, or the refusal of a body that is too long, or whose chunked
    /// coding violates RFC 9112 §7.1.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, ProblemResponse> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(chunked) => chunked.follow(bytes),
        }
    }
}

impl Chunked {
    fn follow(&mut self, bytes: &[u8]) -> Result<usize, ProblemResponse> {
        let mut taken = 0;
        while taken < bytes.len() && self.at != At::Done {
            if self.at == At::Data {
                let left = usize::try_from(self.left).unwrap_or(usize::MAX);
                let data = left.min(bytes.len() - taken);
                taken += data;
                self.left -= data as u64;
                if self.left == 0 {
                    self.at = At::DataCr;
                }
            } else {
                self.at = self.step(bytes[taken])?;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn step(&mut self, byte: u8) -> Result<At, ProblemResponse> {
        Ok(match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() && self.digits < 15 => {
                self.digits += 1;
                self.left = self.left << 4 | (byte as char).to_digit(16).map_or(0, u64::from);
                At::Size
            }
            (At::Size, b';') if self.digits > 0 => At::Extension,
            (At::Size, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Extension, b'\r') => At::SizeLf,
            (At::SizeLf, b'\n') if self.left == 0 => At::TrailerStart,
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                self.seen = self.seen.saturating_add(self.left);
                if self.limit != 0 && self.seen > self.limit {
                    return Err(body_too_long());
                }
                At::Data
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::TrailerStart, b'\r') => At::LastLf,
            (At::LastLf, b'\n') => At::Done,
            // Validated here: hyper would do so after the body counts as read, too late for a response.
            (At::TrailerStart | At::TrailerName, _) if is_token(byte) => {
                self.trailers += usize::from(self.at == At::TrailerStart);
                self.extra()?;
                At::TrailerName
            }
            (At::TrailerName, b':') => At::Trailer,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::Extension | At::Trailer, _) if is_text(byte) => {
                self.extra()?;
                self.at
            }
            _ => return Err(invalid_chunks()),
        })
    }

    fn extra(&mut self) -> Result<(), ProblemResponse> {
        self.extras += 1;
        if self.extras > EXTRAS || self.trailers > TRAILERS {
            Err(invalid_chunks())
        } else {
            Ok(())
        }
    }
}

fn invalid_chunks() -> ProblemResponse {
    malformed(
        "the request's body is not valid chunked coding",
        "correct its coding",
    )
}

pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (b' '..0x7f).contains(&byte) || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many bytes belong to the body and whether it is complete, or the status of the refusal.
    fn chunked(body: &[u8]) -> Result<(usize, bool), u16> {
        let mut framing = Framing::chunked(0);
        let taken = framing.follow(body).map_err(|refusal| refusal.status.as_u16())?;
        Ok((taken, framing.is_done()))
    }

    #[test]
    fn a_chunked_body_ends_where_its_last_chunk_ends() {
        let body = b"5;x=\"y\"\r\nhello\r\n0a\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n";
        assert_eq!(chunked(&[body, &b"GET /"[..]].concat()), Ok((body.len(), true)));
        assert_eq!(chunked(b"0\r\n\r\n"), Ok((5, true)));
    }

    #[test]
    fn malformed_chunked_coding_is_refused() {
        for body in [
            &b"\r\n"[..],
            b"g\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\n",
            b" 5\r\n",
            b"5 \r\n",
            b"5\nhello",
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n",
            b";x\r\n",
            b"-1\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\n\n",
            b"0\r\nx\n",
            b"0\r\nx\r\n",
            b"0\r\nx : y\r\n",
            b"0\r\n: y\r\n",
            b"0\r\n folded: y\r\n",
            b"5;\0\r\n",
        ] {
            assert_eq!(chunked(body), Err(400), "{:?}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_body_over_the_limit_is_refused_at_the_chunk_that_exceeds_it() {
        let mut framing = Framing::chunked(8);
        assert_eq!(framing.follow(b"5\r\nhello\r\n").unwrap(), 10);
        assert_eq!(framing.follow(b"4\r\n").unwrap_err().status, 413);
    }

    #[test]
    fn endless_extensions_and_trailers_are_refused() {
        let trailers = |count| format!("0\r\n{}\r\n", "a:\r\n".repeat(count));
        assert!(chunked(trailers(TRAILERS).as_bytes()).is_ok());
        assert_eq!(chunked(trailers(TRAILERS + 1).as_bytes()), Err(400));
        assert_eq!(chunked(&[&b"1;"[..], &vec![b'x'; EXTRAS + 1]].concat()), Err(400));
    }

    proptest! {
        #[test]
        fn the_sizes_of_reads_do_not_change_where_a_body_ends(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
            cut in 1_usize..7,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            let whole = body.len();
            body.extend(b"GET / HTTP/1.1\r\n");
            let mut framing = Framing::chunked(0);
            let mut taken = 0;
            for piece in body.chunks(cut) {
                taken += framing.follow(piece).unwrap();
            }
            prop_assert!(framing.is_done());
            prop_assert_eq!(taken, whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = chunked(&bytes);
        }
    }
}
