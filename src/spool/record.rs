//! The form of a message in a file: a line that says what was asked, a line with the answer's head, the
//! answer's body as it came, and a trailer with the checksum of all before it.
//!
//! A file without its trailer is one that was not finished: the answer was not whole, or nobody knows.

use std::fmt;
use std::io::{self, BufRead as _, Read};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::ext::ReasonPhrase;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::key::Key;
use crate::spelling;

/// When a message was pulled, in microseconds since 1970; no two messages of a queue have the same, so
/// that it orders and names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

/// What is known of a pull before it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// When.
    pub pulled: Stamp,
    /// From which queue.
    #[serde(flatten)]
    pub key: Key,
    /// By which method.
    pub method: String,
}

/// The head of the answer to a pull, made ready for a caller.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, with neither length nor framing.
    pub headers: HeaderMap,
    /// What hyper notes of it: its reason phrase and the spelling of its names.
    pub extensions: Extensions,
}

/// A message as it was read back.
pub(super) struct Record {
    pub(super) intent: Intent,
    pub(super) head: Head,
    /// Where the body begins in the file.
    pub(super) offset: u64,
    pub(super) length: u64,
    /// The body itself, where it is small.
    pub(super) body: Option<Bytes>,
}

/// A file that holds no whole message.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it ends before its message does")]
    Unfinished,
    #[error("its checksum is another")]
    Checksum,
    #[error("its first lines are not bondgate's")]
    Foreign,
    #[error("a later bondgate wrote it (format {0}); run that one, or a newer one")]
    Later(u32),
    #[error("its name and place are those of another message")]
    Misplaced,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// A body of up to this size is kept in memory once it was read.
pub(super) const SMALL: u64 = 256 << 10;

/// The format of the files that are written here. A file with a later one is left as it is.
const FORMAT: u32 = 1;

const TRAILER: &[u8] = b"\nbondgate sha256 ";
const TRAILER_LENGTH: usize = TRAILER.len() + 64 + 1;
/// More than any first line, and any head that hyper takes.
const LONGEST_LINE: usize = 1 << 20;

/// A file's first line.
#[derive(Serialize)]
struct FirstLine<'a> {
    format: u32,
    #[serde(flatten)]
    intent: &'a Intent,
}

/// What the first line of every format says.
#[derive(Deserialize)]
struct Format {
    #[serde(default)]
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct WrittenHead {
    status: u16,
    /// Where it is another than the status has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The names as they are spelled; all small before that was kept.
    headers: Vec<(String, String)>,
}

impl Stamp {
    /// Now, and later than `last`, whatever the clock says.
    #[must_use]
    pub fn now(last: Option<Self>) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX));
        Self(now.max(last.map_or(0, |last| last.0 + 1)))
    }

    /// The time that it stands for.
    #[must_use]
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.0)
    }

    /// The same in seconds since 1970.
    #[allow(clippy::cast_precision_loss)] // Microseconds are exact for another 260 years.
    pub(super) fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// From the digits of a file's name, which last for another 260 years.
    pub(super) fn parse(digits: &str) -> Option<Self> {
        (digits.len() == 16).then(|| digits.parse().ok().map(Self))?
    }

    /// The digits of a file's name.
    pub(super) fn digits(self) -> String {
        format!("{:016}", self.0)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_micros(self.time()).fmt(f)
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.map_err(serde::de::Error::custom)?;
        u64::try_from(since.as_micros())
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl Intent {
    /// The first line of a file.
    pub(super) fn line(&self) -> Vec<u8> {
        line(&FirstLine {
            format: FORMAT,
            intent: self,
        })
    }

    fn parse(line: &[u8]) -> Result<Self, RecordError> {
        let written: Format = serde_json::from_slice(line).map_err(|_| RecordError::Foreign)?;
        if written.format > FORMAT {
            return Err(RecordError::Later(written.format));
        }
        serde_json::from_slice(line).map_err(|_| RecordError::Foreign)
    }
}

impl Head {
    /// The second line of a file.
    pub(super) fn line(&self) -> Vec<u8> {
        let reason = self.extensions.get::<ReasonPhrase>();
        let names = spelling::names(&self.headers, &self.extensions);
        let values = self.headers.values().map(|value| text(value.as_bytes()));
        line(&WrittenHead {
            status: self.status.as_u16(),
            reason: reason.map(|reason| text(reason.as_bytes())),
            headers: names.into_iter().zip(values).collect(),
        })
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let written: WrittenHead = serde_json::from_slice(line).ok()?;
        let mut headers = HeaderMap::new();
        for (name, value) in &written.headers {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_bytes(&bytes(value)?).ok()?,
            );
        }
        let names = written.headers.iter().map(|(name, _)| name.as_str());
        let mut extensions = spelling::extensions(names);
        if let Some(reason) = written.reason {
            extensions.insert(ReasonPhrase::try_from(bytes(&reason)?).ok()?);
        }
        Some(Self {
            status: StatusCode::from_u16(written.status).ok()?,
            headers,
            extensions,
        })
    }
}

/// A value may hold any byte but controls: each is written as the character of its number.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

/// What ends a file: the checksum of all before it.
pub(super) fn trailer(digest: Sha256) -> Vec<u8> {
    let mut trailer = TRAILER.to_vec();
    for byte in digest.finalize() {
        trailer.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    trailer.push(b'\n');
    trailer
}

/// Reads a whole file and proves it.
pub(super) fn read(file: impl Read, file_length: u64) -> Result<Record, RecordError> {
    let covered = file_length.saturating_sub(TRAILER_LENGTH as u64);
    let mut source = io::BufReader::with_capacity(64 << 10, file);
    let mut proven = Proven {
        source: (&mut source).take(covered),
        digest: Sha256::new(),
    };
    let first = proven.line()?;
    // Where not even the first line is whole, the trailer's room was taken from it.
    let Some(first) = first else {
        return Err(RecordError::Unfinished);
    };
    let intent = Intent::parse(&first)?;
    let Some(second) = proven.line()? else {
        return Err(RecordError::Unfinished);
    };
    let Some(head) = Head::parse(&second) else {
        return Err(RecordError::Unfinished);
    };
    let offset = (first.len() + second.len()) as u64;
    let length = covered - offset;
    let body = proven.rest(length <= SMALL)?;
    let expected = trailer(proven.digest);
    let mut found = Vec::with_capacity(TRAILER_LENGTH);
    source.take(TRAILER_LENGTH as u64).read_to_end(&mut found)?;
    if !found.starts_with(TRAILER) {
        return Err(RecordError::Unfinished);
    }
    if found != expected {
        return Err(RecordError::Checksum);
    }
    Ok(Record {
        intent,
        head,
        offset,
        length,
        body: body.map(Bytes::from),
    })
}

/// The intent of a file that holds no more, or not all.
pub(super) fn read_intent(file: impl Read) -> Result<Intent, RecordError> {
    let mut proven = Proven {
        source: io::BufReader::new(file).take(LONGEST_LINE as u64),
        digest: Sha256::new(),
    };
    Intent::parse(&proven.line()?.ok_or(RecordError::Unfinished)?)
}

struct Proven<R> {
    source: R,
    digest: Sha256,
}

impl<R: io::BufRead> Proven<R> {
    /// The next line, with its end; nothing where it has none.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        (&mut self.source)
            .take(LONGEST_LINE as u64)
            .read_until(b'\n', &mut line)?;
        self.digest.update(&line);
        Ok(line.ends_with(b"\n").then_some(line))
    }

    fn rest(&mut self, is_kept: bool) -> io::Result<Option<Vec<u8>>> {
        let mut kept = Vec::new();
        loop {
            let piece = self.source.fill_buf()?;
            if piece.is_empty() {
                return Ok(is_kept.then_some(kept));
            }
            self.digest.update(piece);
            if is_kept {
                kept.extend_from_slice(piece);
            }
            let count = piece.len();
            self.source.consume(count);
        }
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("texts and numbers are always JSON");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent() -> Intent {
        Intent {
            pulled: Stamp(1_764_080_000_123_456),
            key: Key {
                authority: "stage.example".into(),
                client_id: "id\n\"".into(),
                route: "/pull".into(),
            },
            method: "GET".into(),
        }
    }

    fn file(body: &[u8]) -> Vec<u8> {
        let mut headers = HeaderMap::new();
        headers.append("x-one", HeaderValue::from_bytes(b"caf\xe9").unwrap());
        headers.append("x-one", HeaderValue::from_static("two"));
        let mut extensions = spelling::extensions(["X-ONE", "x-One"]);
        extensions.insert(ReasonPhrase::from_static(b"Tr\xe8s bien"));
        let head = Head {
            status: StatusCode::OK,
            headers,
            extensions,
        };
        let mut file = [intent().line(), head.line(), body.to_vec()].concat();
        let mut digest = Sha256::new();
        digest.update(&file);
        file.extend(trailer(digest));
        file
    }

    fn read_back(file: &[u8]) -> Result<Record, RecordError> {
        read(file, file.len() as u64)
    }

    #[test]
    fn a_message_comes_back_as_it_was_written() {
        let large = vec![0; 300_000];
        for body in [&b""[..], b"{}", b"\nbondgate sha256 \n\n", &large] {
            let record = read_back(&file(body)).unwrap();
            assert_eq!(record.intent, intent());
            assert_eq!(record.length, body.len() as u64);
            let values: Vec<&[u8]> = record
                .head
                .headers
                .get_all("x-one")
                .iter()
                .map(HeaderValue::as_bytes)
                .collect();
            assert_eq!(values, [&b"caf\xe9"[..], b"two"]);
            let Head {
                headers, extensions, ..
            } = &record.head;
            assert_eq!(spelling::names(headers, extensions), ["X-ONE", "x-One"]);
            let reason = extensions.get::<ReasonPhrase>().unwrap();
            assert_eq!(reason.as_bytes(), b"Tr\xe8s bien");
            match record.body {
                Some(kept) => assert_eq!(kept, body),
                None => assert!(body.len() as u64 > SMALL),
            }
        }
    }

    #[test]
    fn a_head_that_was_written_before_reasons_and_spellings_were_kept_is_read() {
        let head = Head::parse(b"{\"status\":200,\"headers\":[[\"x-one\",\"1\"]]}\n").unwrap();
        assert_eq!(
            (head.status, &head.headers["x-one"]),
            (StatusCode::OK, &HeaderValue::from_static("1"))
        );
        assert!(head.extensions.get::<ReasonPhrase>().is_none());
    }

    #[test]
    fn a_file_cut_anywhere_is_no_message() {
        let whole = file(b"{\"Calls\":{}}");
        for cut in 0..whole.len() {
            let error = read_back(&whole[..cut]).err();
            assert!(matches!(error, Some(RecordError::Unfinished)), "{cut}: {error:?}");
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_is_no_message() {
        let whole = file(b"{\"Calls\":{}}");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read_back(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn an_intent_is_read_from_a_file_that_has_no_more() {
        let line = intent().line();
        assert_eq!(read_intent(&line[..]).unwrap(), intent());
        let cut = read_intent(&line[..line.len() - 1]);
        assert!(matches!(cut, Err(RecordError::Unfinished)), "{cut:?}");
    }

    #[test]
    fn a_file_of_a_later_format_is_known_as_such_whatever_else_it_holds() {
        let later = b"{\"format\":7,\"something\":[\"new\"]}\nand more\n".repeat(20);
        assert!(matches!(read_back(&later).err(), Some(RecordError::Later(7))));
        assert!(matches!(read_intent(&later[..]), Err(RecordError::Later(7))));
        let first = serde_json::to_vec(&intent()).unwrap();
        let before = [&first[..], b"\n"].concat();
        assert_eq!(
            read_intent(&before[..]).unwrap(),
            intent(),
            "from before there were formats"
        );
    }

    #[test]
    fn a_stamp_is_later_than_the_last_one_even_when_the_clock_is_not() {
        let far = Stamp(9_000_000_000_000_000);
        assert_eq!(Stamp::now(Some(far)), Stamp(far.0 + 1));
        assert!(Stamp::now(None) > Stamp(1_700_000_000_000_000));
        assert_eq!(Stamp::parse(&far.digits()), Some(far));
        let text = serde_json::to_string(&intent().pulled).unwrap();
        assert_eq!(text, "\"2025-11-25T14:13:20.123456Z\"");
        assert_eq!(serde_json::from_str::<Stamp>(&text).unwrap(), intent().pulled);
    }
}
