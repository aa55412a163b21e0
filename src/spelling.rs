//! The spelling of the field names in a head, while it passes the request stack and while it is stored.
//!
//! hyper records the spelling in an extension of the message, which only hyper can read and create. So hyper writes a head
//! into memory, where the names are read, or reads a head from memory and creates the extension.

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Extensions, HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::coop::unconstrained;

/// More fields than any relayed head has.
const MAX_FIELDS: usize = 2000;
/// More bytes than any relayed head has.
const MAX_HEAD: usize = 1 << 20;

/// What hyper recorded about a request head beside its fields: the spelling of their names. It is set aside as one
/// extension of the request while that passes the request stack, whose own extensions do not go upstream.
#[derive(Clone, Debug, Default)]
pub struct Recorded(pub Extensions);

/// The names of `headers`, one for each line and in their order, in the spelling of a message with these extensions.
#[must_use]
pub fn names(headers: &HeaderMap, extensions: &Extensions) -> Vec<String> {
    let mut request = Request::new(Empty::new());
    *request.headers_mut() = headers.clone();
    *request.extensions_mut() = extensions.clone();
    let written = exchange(request, &[]).map_or_else(Vec::new, |(_, written)| written);
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

/// The extensions by which hyper spells names like these. Without extensions it writes title case.
#[must_use]
pub fn extensions<'a>(names: impl IntoIterator<Item = &'a str>) -> Extensions {
    let mut head = b"HTTP/1.1 204 No Content\r\n".to_vec();
    let mut is_title_case = true;
    for name in names {
        is_title_case &= self::is_title_case(name);
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b":\r\n");
    }
    head.extend_from_slice(b"\r\n");
    if is_title_case {
        return Extensions::new();
    }
    let response = exchange(Request::new(Empty::new()), &head).and_then(|(response, _)| response);
    response.map_or_else(Extensions::new, |response| response.into_parts().0.extensions)
}

/// Whether hyper spells a name like this without a recorded spelling: `Content-Length`.
#[must_use]
pub fn is_title_case(name: &str) -> bool {
    let mut is_first = true;
    name.bytes().all(|byte| {
        let is_as_spelled = if is_first {
            !byte.is_ascii_lowercase()
        } else {
            !byte.is_ascii_uppercase()
        };
        is_first = byte == b'-';
        is_as_spelled
    })
}

/// A name as hyper writes it without a recorded spelling.
#[must_use]
pub fn title_case(name: &str) -> String {
    let spell = |(at, c): (usize, char)| match name[..at].chars().next_back() {
        None | Some('-') => c.to_ascii_uppercase(),
        Some(_) => c.to_ascii_lowercase(),
    };
    name.char_indices().map(spell).collect()
}

/// Lets hyper send a request into memory and receive this response from there. Returns the response, if it is valid, and
/// the bytes of the request.
fn exchange(
    request: Request<Empty<Bytes>>,
    response: &[u8],
) -> Option<(Option<Response<Incoming>>, Vec<u8>)> {
    let exchanged = async {
        let (near, mut far) = tokio::io::duplex(MAX_HEAD);
        let (mut sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .title_case_headers(true)
            .max_headers(MAX_FIELDS)
            .handshake(TokioIo::new(near))
            .await
            .ok()?;
        let mut connection = Box::pin(connection);
        let received = sender.send_request(request);
        // The connection writes the request; a response that came before it would be invalid.
        let _ = connection.as_mut().now_or_never();
        far.write_all(response).await.ok()?;
        let _ = connection.as_mut().now_or_never();
        let received = received.now_or_never().and_then(Result::ok);
        drop(connection);
        let mut written = Vec::new();
        far.read_to_end(&mut written).await.ok()?;
        Some((received, written))
    };
    // Memory is always ready, and tokio's budget for one poll does not apply.
    unconstrained(exchanged).now_or_never().flatten()
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
    fn names_keep_their_spelling() {
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
    fn a_name_without_a_recorded_spelling_is_in_title_case() {
        let names = names(
            &headers(&["www-authenticate".to_owned(), "x-a".to_owned()]),
            &extensions(["WWW-Authenticate"]),
        );
        assert_eq!(names, ["WWW-Authenticate", "X-A"]);
    }

    #[test]
    fn an_invalid_name_leads_to_no_extensions() {
        assert!(extensions(["no name"]).is_empty());
    }
}
