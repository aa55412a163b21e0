//! The status page: complete HTML without a script, which a small script keeps current.
//!
//! A page consists of [`sections`]. Each is rendered by itself, so that an event carries those that changed.

mod certificates;
mod chart;
mod level;
mod listeners;
mod now;
mod overview;
mod problems;
mod refusals;
mod requests;
mod sections;
mod spool;
mod text;
mod timeline;
mod traffic;
mod upstreams;

use askama::Template;
use axum::response::{Html, IntoResponse};
use http::HeaderName;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};

pub(super) use self::now::Now;
pub(super) use self::sections::{Section, Sections, render};

/// Nothing but bondgate's own files, and no script or style in the page itself.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[derive(Template)]
#[template(path = "page.html", config = "src/admin/page/askama.toml")]
struct Page<'a> {
    title: &'a str,
    sections: &'a [Section],
}

/// The whole page.
pub(super) fn page(sections: &Sections) -> impl IntoResponse + use<> {
    let page = Page {
        title: &sections.title,
        sections: &sections.all,
    };
    let html = page.render().unwrap_or_else(|error| error.to_string());
    (HEADERS, Html(html))
}

/// The files that the page names, by their path.
pub(super) const FILES: [(&str, &str, &str); 3] = [
    ("/page.css", "text/css; charset=utf-8", include_str!("page.css")),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page.js"),
    ),
    ("/page.svg", "image/svg+xml", include_str!("page.svg")),
];

/// The response with a file.
pub(super) fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    // Another version of bondgate has other files at the same address.
    (HEADERS, [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text)
}

const HEADERS: [(HeaderName, &str); 2] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (REFERRER_POLICY, "no-referrer"),
];

#[cfg(test)]
mod tests;
