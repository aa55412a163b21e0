//! Keeps browsers out: no web page sends requests without permission, and no click takes a message off a queue.

use http::Request;
use http::header::HOST;

use super::forbidden;
use crate::config::Listener;
use crate::server::{ProblemResponse, WebPage, web_page};

/// Refuses a request of a web page that is not in the listener's `origins`. `admin` is the address of the status page.
pub(super) fn check<B>(
    listener: &Listener,
    admin: &str,
    request: &Request<B>,
) -> Result<(), ProblemResponse> {
    let headers = request.headers();
    match web_page(headers, &listener.origins) {
        None => Ok(()),
        Some(WebPage::Request) => Err(forbidden(
            "a web page sent this request, and this listener does not accept requests of web pages; if it should, add the \
             page's origin to origins of the listener",
        )),
        Some(WebPage::Navigation) => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let is_tls = listener.tls.is_some();
            Err(forbidden(format!(
                "this address is for programs, not for browsers: a click here could take a message off a queue. Try \
                 `curl -i {}://{}{}`; the status page is at {admin}",
                if is_tls { "https" } else { "http" },
                host.unwrap_or("localhost:8080"),
                safe_for_a_shell(request.uri().path()),
            )))
        }
    }
}

/// The path, where it can be pasted into a shell as one word; else `/`.
fn safe_for_a_shell(path: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%=,:@+".contains(&byte);
    if path.bytes().all(is_plain) { path } else { "/" }
}
