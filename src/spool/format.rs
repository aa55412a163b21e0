//! The content of a message's file: a line with the pull, a line with the response's head, the body byte for byte, and a
//! trailer with the checksum of everything before it. A file without a valid trailer holds no whole message.

use std::io::{self, BufRead as _, Read};

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::id::{MessageId, QueueId};
use crate::spelling;

/// A pull, as it is written down before it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The message that it may bring.
    #[serde(rename = "pulled")]
    pub id: MessageId,
    /// The queue that it is taken from.
    #[serde(flatten)]
    pub queue: QueueId,
    /// The request's method.
    pub method: String,
}

/// The content of a message.
pub(super) struct Content {
    pub(super) intent: Intent,
    pub(super) head: Parts,
    /// Where the body begins in the file.
    pub(super) offset: u64,
    /// The length of the body.
    pub(super) length: u64,
    /// The body itself: any of up to [`SMALL`] bytes, and each without a file.
    pub(super) small: Option<Bytes>,
    /// Its share of `spool.memory`, without a file.
    pub(super) _share: Option<OwnedSemaphorePermit>,
}

/// A file that holds no whole message.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormatError {
    #[error("{0}")]
    Damaged(&'static str),
    #[error("a later bondgate wrote it (format {0}); run that version or a newer one")]
    Later(u32),
    /// Whether it was moved to its folder is not known.
    #[error("it cannot be read: {0}")]
    Unplaced(io::Error),
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
}

const INCOMPLETE: FormatError = FormatError::Damaged("it is incomplete");
const FOREIGN: FormatError = FormatError::Damaged("it does not begin like a file of bondgate");

/// The most that is held in memory of a message in a file.
pub(super) const SMALL: u64 = 256 << 10;

/// The format that is written. Files of a later format are left alone.
const FORMAT: u32 = 1;

const TRAILER: &[u8] = b"\nbondgate sha256 ";
const TRAILER_LENGTH: usize = TRAILER.len() + 64 + 1;
/// More than any first line, and than any head that hyper accepts.
const LONGEST_LINE: u64 = 1 << 20;

#[derive(Serialize)]
struct FirstLine<'a> {
    format: u32,
    #[serde(flatten)]
    intent: &'a Intent,
}

/// What the first line of every format has.
#[derive(Deserialize)]
struct Format {
    #[serde(default)]
    format: u32,
}

#[derive(Serialize, Deserialize)]
struct HeadLine {
    status: u16,
    /// Where it differs from the status code's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    headers: Vec<(String, String)>,
}

impl Intent {
    /// The first line of a file.
    pub(super) fn line(&self) -> Vec<u8> {
        line(&FirstLine {
            format: FORMAT,
            intent: self,
        })
    }

    /// Reads the first line of a file.
    pub(super) fn read(file: impl Read) -> Result<Self, FormatError> {
        let mut line = Vec::new();
        io::BufReader::new(file)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        Self::parse(&line)
    }

    fn parse(line: &[u8]) -> Result<Self, FormatError> {
        if !line.ends_with(b"\n") {
            return Err(INCOMPLETE);
        }
        let written: Format = serde_json::from_slice(line).map_err(|_| FOREIGN)?;
        if written.format > FORMAT {
            return Err(FormatError::Later(written.format));
        }
        serde_json::from_slice(line).map_err(|_| FOREIGN)
    }
}

/// The second line of a file, from a response's head.
pub(super) fn head_line(head: &Parts) -> Vec<u8> {
    let reason = head.extensions.get::<ReasonPhrase>();
    let names = spelling::names(&head.headers, &head.extensions);
    let values = head.headers.values().map(|value| text(value.as_bytes()));
    line(&HeadLine {
        status: head.status.as_u16(),
        reason: reason.map(|reason| text(reason.as_bytes())),
        headers: names.into_iter().zip(values).collect(),
    })
}

fn parse_head(line: &[u8]) -> Option<Parts> {
    let written: HeadLine = serde_json::from_slice(line).ok()?;
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::from_u16(written.status).ok()?;
    for (name, value) in &written.headers {
        head.headers.append(
            HeaderName::from_bytes(name.as_bytes()).ok()?,
            HeaderValue::from_bytes(&bytes(value)?).ok()?,
        );
    }
    let names = written.headers.iter().map(|(name, _)| name.as_str());
    head.extensions = spelling::extensions(names);
    if let Some(reason) = written.reason {
        head.extensions
            .insert(ReasonPhrase::try_from(bytes(&reason)?).ok()?);
    }
    Some(head)
}

/// A field value may hold any byte but controls. JSON holds each as the character of the same number.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("texts and numbers are always JSON");
    line.push(b'\n');
    line
}

/// The end of a file, after content with this digest.
pub(super) fn trailer(digest: Sha256) -> Vec<u8> {
    [TRAILER, format!("{:x}", digest.finalize()).as_bytes(), b"\n"].concat()
}

/// Reads a file of this length and verifies its checksum.
pub(super) fn read(file: impl Read, length: u64) -> Result<Content, FormatError> {
    let content = length.saturating_sub(TRAILER_LENGTH as u64);
    let mut file = io::BufReader::with_capacity(64 << 10, file);
    let mut digest = Sha256::new();
    // Not limited to the content: a file of a later format need not have this trailer.
    let first = read_line(&mut file, &mut digest)?;
    let intent = Intent::parse(&first)?;
    let rest = content.checked_sub(first.len() as u64).ok_or(INCOMPLETE)?;
    let mut source = (&mut file).take(rest);
    let second = read_line(&mut source, &mut digest)?;
    let head = parse_head(&second).ok_or(INCOMPLETE)?;
    let offset = (first.len() + second.len()) as u64;
    let length = content - offset;
    let small = read_body(&mut source, &mut digest, length)?;
    let mut found = Vec::with_capacity(TRAILER_LENGTH);
    file.take(TRAILER_LENGTH as u64).read_to_end(&mut found)?;
    if !found.starts_with(TRAILER) {
        return Err(INCOMPLETE);
    }
    if found != trailer(digest) {
        return Err(FormatError::Damaged("its checksum is wrong"));
    }
    Ok(Content {
        intent,
        head,
        offset,
        length,
        small,
        _share: None,
    })
}

fn read_line(source: impl io::BufRead, digest: &mut Sha256) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    source.take(LONGEST_LINE).read_until(b'\n', &mut line)?;
    digest.update(&line);
    Ok(line)
}

/// Reads a body, and returns it if it is small.
fn read_body(source: &mut impl io::BufRead, digest: &mut Sha256, length: u64) -> io::Result<Option<Bytes>> {
    if length > SMALL {
        io::copy(source, digest)?;
        return Ok(None);
    }
    let mut body = Vec::new();
    source.read_to_end(&mut body)?;
    digest.update(&body);
    Ok(Some(body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent() -> Intent {
        Intent {
            id: MessageId::for_test(1_764_080_000_123_456),
            queue: QueueId {
                authority: "stage.example".into(),
                client_id: "id\n\"".into(),
                route: "/pull".into(),
            },
            method: "GET".into(),
        }
    }

    fn file(body: &[u8]) -> Vec<u8> {
        let (mut head, ()) = Response::new(()).into_parts();
        let value = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        head.headers.append("x-one", value);
        head.headers.append("x-one", HeaderValue::from_static("two"));
        head.extensions = spelling::extensions(["X-ONE", "x-One"]);
        head.extensions.insert(ReasonPhrase::from_static(b"Tr\xe8s bien"));
        let mut file = [intent().line(), head_line(&head), body.to_vec()].concat();
        let mut digest = Sha256::new();
        digest.update(&file);
        file.extend(trailer(digest));
        file
    }

    fn read_back(file: &[u8]) -> Result<Content, FormatError> {
        read(file, file.len() as u64)
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let large = vec![0; 300_000];
        for body in [&b""[..], b"{}", b"\nbondgate sha256 \n\n", &large] {
            let parsed = read_back(&file(body)).unwrap();
            assert_eq!(parsed.intent, intent());
            let values: Vec<&[u8]> = parsed
                .head
                .headers
                .get_all("x-one")
                .iter()
                .map(HeaderValue::as_bytes)
                .collect();
            assert_eq!(values, [&b"caf\xe9"[..], b"two"]);
            let Parts {
                headers, extensions, ..
            } = &parsed.head;
            assert_eq!(spelling::names(headers, extensions), ["X-ONE", "x-One"]);
            let reason = extensions.get::<ReasonPhrase>().unwrap();
            assert_eq!(reason.as_bytes(), b"Tr\xe8s bien");
            assert_eq!(parsed.length, body.len() as u64);
            match parsed.small {
                Some(small) => assert_eq!(small, body),
                None => assert!(body.len() as u64 > SMALL),
            }
        }
    }

    #[test]
    fn a_head_without_reason_and_spelling_is_read() {
        let head = parse_head(b"{\"status\":200,\"headers\":[[\"x-one\",\"1\"]]}\n").unwrap();
        assert_eq!(
            (head.status, &head.headers["x-one"]),
            (StatusCode::OK, &HeaderValue::from_static("1"))
        );
        assert!(head.extensions.get::<ReasonPhrase>().is_none());
    }

    #[test]
    fn a_truncated_file_is_no_message() {
        let whole = file(b"{\"Calls\":{}}");
        for cut in 0..whole.len() {
            let error = read_back(&whole[..cut]).err();
            assert!(
                matches!(error, Some(FormatError::Damaged("it is incomplete"))),
                "{cut}: {error:?}"
            );
        }
    }

    #[test]
    fn a_file_with_a_changed_byte_is_no_message() {
        let whole = file(b"{\"Calls\":{}}");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read_back(&changed).is_err(), "{at}");
        }
    }

    #[test]
    fn an_intent_is_read_from_a_file_without_a_response() {
        let line = intent().line();
        assert_eq!(Intent::read(&line[..]).unwrap(), intent());
        let cut = Intent::read(&line[..line.len() - 1]);
        assert!(
            matches!(cut, Err(FormatError::Damaged("it is incomplete"))),
            "{cut:?}"
        );
    }

    #[test]
    fn a_file_of_a_later_format_is_recognized_whatever_its_content() {
        let later = b"{\"format\":7,\"something\":[\"new\"]}\nand more\n".repeat(20);
        assert!(matches!(read_back(&later).err(), Some(FormatError::Later(7))));
        assert!(matches!(Intent::read(&later[..]), Err(FormatError::Later(7))));
        let first = serde_json::to_vec(&intent()).unwrap();
        let before = [&first[..], b"\n"].concat();
        assert_eq!(
            Intent::read(&before[..]).unwrap(),
            intent(),
            "a file without a format number"
        );
    }
}
