//! The events that keep an open status page current, as server-sent events.
//!
//! A viewer's stream looks at the state while it is read, and sends the sections that changed; without a viewer, nothing
//! runs. It ends when a stop begins or a reload replaces the router, and after some minutes, so that a viewer who is gone
//! without a trace does not hold its place for long: browsers connect again by themselves.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Map, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::page::{self, Now, Sections};
use super::sources::Sources;
use crate::problems::admin as problems;
use crate::server::{CallerId, FairSemaphore, Permit, Phase, ProblemResponse, ProxyErrorType, Stopping};

/// The most viewers at a time. One host gets three quarters of them, so that it cannot keep out all others.
const VIEWERS: usize = 20;
/// The time between two looks at the state.
const INTERVAL: Duration = Duration::from_secs(2);
/// The longest time in which nothing is sent. Only a write shows that a viewer is gone, and only the second one fails.
const SILENCE: Duration = Duration::from_secs(5);
/// The life of a stream.
const LIFE: Duration = Duration::from_secs(300);
/// After how many milliseconds a browser connects again.
const RETRY_MS: u32 = 1000;

/// What all viewers share.
pub(super) struct Viewers {
    sources: Arc<Sources>,
    places: FairSemaphore,
    number: usize,
    /// The last look at the state, for viewers on other hosts and on this one.
    last: [Mutex<Option<Look>>; 2],
}

/// The sections at a time.
struct Look {
    at: Instant,
    phase: Phase,
    sections: Arc<Sections>,
}

impl Viewers {
    /// Places for viewers, at a listener with so many connections: health checks need some, too.
    pub(super) fn new(sources: Arc<Sources>, connections: usize) -> Arc<Self> {
        let number = places(connections);
        Arc::new(Self {
            sources,
            places: FairSemaphore::new(number, 0),
            number,
            last: Default::default(),
        })
    }

    /// A viewer's stream, or 503 if there are too many, or too many of its host. On this machine, where all may have one
    /// address, only the number of all viewers counts.
    pub(super) fn add(self: &Arc<Self>, is_local: bool, host: Option<CallerId>) -> Response {
        let Ok(place) = self.places.acquire(host.filter(|_| !is_local)) else {
            let problem = problems::viewers_full(self.number);
            return ProblemResponse::not_executed(ProxyErrorType::ConnectionLimitReached, problem)
                .into_response();
        };
        let viewer = Viewer {
            viewers: Arc::downgrade(self),
            is_local,
            stop: self.sources.readiness.stop.clone(),
            shown: None,
            began: Instant::now(),
            last_sent: Instant::now(),
            is_over: false,
            _place: place,
        };
        let events = stream::unfold(viewer, async |mut viewer| {
            let text = viewer.next().await?;
            Some((Ok::<_, Infallible>(text), viewer))
        });
        let headers = [(CONTENT_TYPE, "text/event-stream"), (CONNECTION, "close")];
        (headers, Body::from_stream(events)).into_response()
    }

    /// The sections now; several viewers share a look.
    async fn sections(&self, is_local: bool) -> Arc<Sections> {
        let mut last = self.last[usize::from(is_local)].lock().await;
        let phase = self.sources.readiness.stop.phase();
        if let Some(look) = &*last
            && look.phase == phase
            && look.at.elapsed() < INTERVAL / 2
        {
            return look.sections.clone();
        }
        let sections = Arc::new(page::render(&Now::collect(&self.sources, is_local).await, false));
        *last = Some(Look {
            at: Instant::now(),
            phase,
            sections: sections.clone(),
        });
        sections
    }
}

fn places(connections: usize) -> usize {
    VIEWERS.min(connections / 2)
}

/// The stream of one viewer.
struct Viewer {
    /// A reload drops it.
    viewers: Weak<Viewers>,
    is_local: bool,
    stop: Stopping,
    /// The sections that the viewer has.
    shown: Option<Arc<Sections>>,
    began: Instant,
    last_sent: Instant,
    is_over: bool,
    _place: Permit,
}

impl Viewer {
    /// The next part of the stream; `None` at its end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.is_over {
                return None;
            }
            if self.shown.is_some() {
                tokio::select! {
                    () = sleep(INTERVAL) => {}
                    () = self.stop.reached(Phase::LameDuck) => {}
                }
            }
            let viewers = self.viewers.upgrade()?;
            // The last event shows the stop itself.
            self.is_over = self.stop.phase() > Phase::Serving || self.began.elapsed() > LIFE;
            let sections = viewers.sections(self.is_local).await;
            let shown = self.shown.replace(sections.clone());
            let text = match event(&sections, shown.as_deref()) {
                Some(event) if shown.is_none() => format!("retry: {RETRY_MS}\n{event}"),
                Some(event) => event,
                None if self.last_sent.elapsed() >= SILENCE => ":\n\n".to_owned(),
                None => continue,
            };
            self.last_sent = Instant::now();
            return Some(text);
        }
    }
}

/// An event with the sections that differ from those that are shown.
fn event(sections: &Sections, shown: Option<&Sections>) -> Option<String> {
    let is_shown = |at: usize| shown.is_some_and(|shown| shown.all[at].html == sections.all[at].html);
    let changed = sections.all.iter().enumerate().filter(|(at, _)| !is_shown(*at));
    let changed: Map<_, _> = changed
        .map(|(_, section)| (section.id.to_owned(), section.html.as_str().into()))
        .collect();
    let now = humantime::format_rfc3339_millis(std::time::SystemTime::now()).to_string();
    (!changed.is_empty()).then(|| {
        // JSON has no line breaks.
        format!(
            "event: sections\ndata: {}\n\n",
            json!({ "now": now, "sections": changed })
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use futures_util::StreamExt as _;
    use tokio::sync::watch;

    use super::super::page::Section;
    use super::super::readiness::Readiness;
    use super::super::status::Facts;
    use super::*;
    use crate::config::Config;
    use crate::server::stopping;
    use crate::spool::Spool;
    use crate::telemetry::RecentLog;
    use crate::telemetry::activity::Activity;
    use crate::telemetry::metrics::Metrics;

    /// Viewers of a daemon without upstreams, and its stop.
    fn viewers() -> (Arc<Viewers>, watch::Sender<Phase>) {
        let text =
            "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n";
        let config = Config::parse(text, "test.toml", []).unwrap();
        let metrics = Metrics::new();
        let (stop, stopping) = stopping();
        let facts = Facts {
            started: SystemTime::now(),
            configured: SystemTime::now(),
            configuration: None,
            rejected_reload: Arc::default(),
            listeners: Vec::new(),
            certificates: Vec::new(),
            upstreams: Vec::new(),
        };
        let sources = Sources {
            facts,
            readiness: Readiness::new(Vec::new(), stopping),
            spool: Spool::open(&config.spool, metrics.clone()).unwrap(),
            metrics,
            activity: Activity::new(),
            log: RecentLog::default(),
        };
        (Viewers::new(Arc::new(sources), 64), stop)
    }

    /// The parts of a stream.
    struct Parts(axum::body::BodyDataStream);

    impl Parts {
        fn of(response: Response) -> Self {
            assert_eq!(response.status(), 200);
            Self(response.into_body().into_data_stream())
        }

        async fn next(&mut self) -> Option<String> {
            let part = self.0.next().await?.unwrap();
            Some(String::from_utf8(part.to_vec()).unwrap())
        }
    }

    fn sections(texts: [&str; 2]) -> Sections {
        let section = |(id, html): (&'static str, &str)| Section {
            id,
            html: html.to_owned(),
        };
        Sections {
            title: String::new(),
            all: ["a", "b"].into_iter().zip(texts).map(section).collect(),
        }
    }

    #[test]
    fn an_event_has_the_sections_that_changed_and_none_is_sent_without_a_change() {
        let first = sections(["<p>1\n</p>", "2"]);
        let text = event(&first, None).unwrap();
        let (head, data) = text.split_once("data: ").unwrap();
        assert_eq!(head, "event: sections\n");
        let data = data.strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["sections"], json!({ "a": "<p>1\n</p>", "b": "2" }));

        assert_eq!(event(&first, Some(&first)), None);
        let text = event(&sections(["<p>1\n</p>", "3"]), Some(&first)).unwrap();
        assert!(text.contains("{\"b\":\"3\"}"), "{text}");
    }

    #[test]
    fn viewers_leave_connections_to_health_checks() {
        for (connections, expected) in [(64, 20), (8, 4)] {
            assert_eq!(places(connections), expected);
        }
    }

    #[tokio::test]
    async fn a_viewer_beyond_the_limit_gets_503_until_another_one_is_gone() {
        let (viewers, _stop) = viewers();
        let mut open: Vec<_> = (0..20).map(|_| viewers.add(true, None)).collect();
        let refused = viewers.add(true, None);
        assert_eq!(refused.status(), 503);
        let problem: ProblemResponse = refused.extensions().get().cloned().unwrap();
        assert_eq!(problem.problem.code(), "admin-viewers-full");
        open.pop();
        assert_eq!(viewers.add(true, None).status(), 200);
    }

    #[tokio::test]
    async fn one_host_leaves_places_to_other_hosts_and_to_this_machine() {
        let (viewers, _stop) = viewers();
        let host = |number| Some(CallerId::at([10, 0, 0, number].into()));
        let all = (0..20).map(|_| viewers.add(false, host(1)));
        let open: Vec<_> = all.filter(|response| response.status() == 200).collect();
        assert_eq!(open.len(), 15);
        let other = viewers.add(false, host(2));
        assert_eq!(other.status(), 200);
        let own: Vec<_> = (0..4).map(|_| viewers.add(true, host(3))).collect();
        assert!(own.iter().all(|response| response.status() == 200));
        assert_eq!(viewers.add(true, host(3)).status(), 503);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_begins_with_all_sections_and_then_only_shows_that_it_is_alive() {
        let (viewers, _stop) = viewers();
        let mut parts = Parts::of(viewers.add(true, None));
        let first = parts.next().await.unwrap();
        assert!(first.starts_with("retry: 1000\nevent: sections\n"), "{first}");
        for id in [
            "overview",
            "problems",
            "upstreams",
            "traffic",
            "spool",
            "refusals",
            "requests",
        ] {
            assert!(first.contains(&format!("\"{id}\":")), "{id}: {first}");
        }
        let began = Instant::now();
        for _ in 0..3 {
            assert_eq!(parts.next().await.unwrap(), ":\n\n");
        }
        assert!(began.elapsed() >= SILENCE * 3, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_by_itself_so_that_a_lost_viewer_gives_its_place_back() {
        let (viewers, _stop) = viewers();
        let mut parts = Parts::of(viewers.add(true, None));
        let began = Instant::now();
        while parts.next().await.is_some() {}
        assert!((LIFE..LIFE + SILENCE * 2).contains(&began.elapsed()));
    }

    #[tokio::test]
    async fn the_last_event_shows_that_a_stop_has_begun() {
        let (viewers, stop) = viewers();
        let mut parts = Parts::of(viewers.add(true, None));
        parts.next().await.unwrap();
        stop.send_replace(Phase::LameDuck);
        let last = parts.next().await.unwrap();
        assert!(last.contains("Stopping"), "{last}");
        assert_eq!(parts.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_a_reload_has_replaced_what_it_shows() {
        let (viewers, _stop) = viewers();
        let mut parts = Parts::of(viewers.add(true, None));
        parts.next().await.unwrap();
        drop(viewers);
        assert_eq!(parts.next().await, None);
    }
}
