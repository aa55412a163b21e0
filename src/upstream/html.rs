//! Recognizes an HTML page: a gateway or a login page of the network responds with one in place of a service that responds
//! in JSON.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// How many bytes of a body [`is_html`] needs.
pub const HTML_BEGINNING: usize = 1000;

/// Whether a response calls its body HTML. Some servers call JSON so, too.
#[must_use]
pub fn declares_html(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().get(..9));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"))
}

/// Whether a body that begins so is an HTML page.
#[must_use]
pub fn is_html(beginning: &[u8]) -> bool {
    let start = beginning.strip_prefix("\u{feff}".as_bytes()).unwrap_or(beginning);
    let start = start.trim_ascii_start();
    let start = start[..start.len().min(HTML_BEGINNING)].to_ascii_lowercase();
    let has = |tag: &[u8]| start.windows(tag.len()).any(|window| window == tag);
    start.starts_with(b"<") && (has(b"<html") || has(b"<!doctype html"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_html_if_it_begins_like_a_page() {
        for page in [
            "<!DOCTYPE html><p>",
            "\u{feff}\r\n <HTML lang=\"de\">",
            "<?xml version=\"1.0\"?>\n<!-- a --><html>",
        ] {
            assert!(is_html(page.as_bytes()), "{page}");
        }
        for message in ["{\"Calls\":\"<html>\"}", "<Calls/>", "[]", "html", "<", ""] {
            assert!(!is_html(message.as_bytes()), "{message}");
        }
    }

    #[test]
    fn only_text_html_declares_html() {
        for (kind, declares) in [
            ("Text/HTML; charset=utf-8", true),
            ("text/html", true),
            ("application/json", false),
            ("text", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(declares_html(&headers), declares, "{kind}");
        }
        assert!(!declares_html(&HeaderMap::new()));
    }
}
