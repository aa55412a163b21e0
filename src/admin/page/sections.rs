//! The sections of the page, and how they are rendered.

use askama::Template;

use super::now::Now;
use super::{certificates, listeners, overview, problems, refusals, requests, spool, traffic, upstreams};

/// The page's sections at one moment.
pub(in super::super) struct Sections {
    /// The title of the page, with the verdict.
    pub(in super::super) title: String,
    pub(in super::super) all: Vec<Section>,
}

/// A section of the page.
pub(in super::super) struct Section {
    /// Its id in the page, by which an event names it.
    pub(in super::super) id: &'static str,
    /// Its content.
    pub(in super::super) html: String,
}

/// Renders all sections. With `relative_times`, they are complete for browsers without a script; else the same state gives
/// the same text.
pub(in super::super) fn render(now: &Now<'_>, relative_times: bool) -> Sections {
    let clock = relative_times.then_some(now.at);
    let overview = overview::section(now, clock);
    let title = overview.title();
    let all = vec![
        section("overview", &overview),
        section("problems", &problems::section(now, clock)),
        section("upstreams", &upstreams::section(now, clock)),
        section("traffic", &traffic::section(now)),
        section("spool", &spool::section(now, clock)),
        section("listeners", &listeners::section(now)),
        section("certificates", &certificates::section(now, clock)),
        section("refusals", &refusals::section(now, clock)),
        section("requests", &requests::section(now, clock)),
    ];
    Sections { title, all }
}

/// A failure to render is a bug, which the page itself should show.
fn section(id: &'static str, template: &impl Template) -> Section {
    let html = template.render().unwrap_or_else(|error| error.to_string());
    Section { id, html }
}
