//! Keeps browsers out: no web page sends requests without permission, and no click takes a message off a queue.

use http::Request;
use http::header::HOST;

use super::forbidden;
use crate::config::Listener;
use crate::problems::request as problems;
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
        Some(WebPage::Request) => Err(forbidden(problems::page_refused())),
        Some(WebPage::Navigation) => {
            let host = headers.get(HOST).and_then(|host| host.to_str().ok());
            let scheme = if listener.tls.is_some() { "https" } else { "http" };
            let path = safe_for_a_shell(request.uri().path());
            let command = format!("curl -i {scheme}://{}{path}", host.unwrap_or("localhost:8080"));
            Err(forbidden(problems::browser_refused(command, admin)))
        }
    }
}

/// The path, where it can be pasted into a shell as one word; else `/`.
fn safe_for_a_shell(path: &str) -> &str {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%=,:@+".contains(&byte);
    if path.bytes().all(is_plain) { path } else { "/" }
}
