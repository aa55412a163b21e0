//! How requests, refusals and messages are shown.

use super::*;
use crate::telemetry::activity::{FinishedRequest, Refusal};

#[test]
fn hostile_texts_are_escaped_and_the_page_has_no_script_and_no_style_of_its_own() {
    const HOSTILE: &str = "</td><script>alert('\"1')</script><img src=x onerror=y>&";
    let facts = facts();
    let mut now = well(&facts);
    let activity = Activity::new();
    let (cisco, hostile): (Arc<str>, Arc<str>) = ("cisco".into(), HOSTILE.into());
    activity.record(&FinishedRequest {
        at: at(3590),
        upstream: &cisco,
        listener: &hostile,
        caller: Some(&hostile),
        address: Some(&hostile),
        method: HOSTILE,
        path: HOSTILE,
        rule: Some(&hostile),
        status: 200,
        origin: "upstream",
        is_sent: true,
        is_complete: true,
        request_bytes: 1500,
        response_bytes: 20,
        duration: Duration::from_millis(50),
        own_time: Duration::from_micros(250),
        upstream_time: Duration::from_millis(40),
        problem: None,
        correlation_id: Some(HOSTILE),
    });
    for status in [400, 0] {
        activity.refused(Refusal {
            at: at(3590),
            listener: HOSTILE,
            problem: "request-malformed",
            status,
            caller: Some(HOSTILE.into()),
        });
    }
    now.refusals = activity.refusals();
    now.requests = activity.recent();
    now.upstreams[0].minutes = activity.last_hour("cisco", now.at);
    let hostile = ActiveProblem {
        part: HOSTILE.to_owned(),
        subject: HOSTILE.to_owned(),
        ..problem("", api::cut_short(HOSTILE, HOSTILE), Severity::Error)
    };
    now.problems = vec![hostile];
    let (html, _) = html(&now);
    assert_shows(
        &html,
        &[
            "250 µs",
            "40.0 ms",
            "1.5 kB / 20 B",
            "1 request, 0 errors",
            "request-malformed</span>",
            "none, closed",
            "1 time</td>",
            "&#60;/td&#62;&#60;script&#62;",
        ],
    );
    assert_eq!(html.matches("<script").count(), 1);
    for wrong in ["<img src=x", "style=", "<script>", "javascript:", "onerror=y>"] {
        assert!(!html.contains(wrong), "{wrong}:\n{html}");
    }
    assert_eq!(html.matches("<tr").count(), html.matches("</tr>").count());
}

#[test]
fn the_states_of_requests_and_messages_are_in_words() {
    let facts = facts();
    let mut now = well(&facts);
    let activity = Activity::new();
    let (cisco, listener): (Arc<str>, Arc<str>) = ("cisco".into(), "127.0.0.1:8080".into());
    for (status, origin, is_complete) in [
        (0, "bondgate", false),
        (403, "bondgate", true),
        (503, "bondgate", true),
        (404, "upstream", true),
        (502, "upstream", true),
        (200, "spool", true),
        (200, "upstream", false),
    ] {
        activity.record(&FinishedRequest {
            at: at(3590),
            upstream: &cisco,
            listener: &listener,
            caller: None,
            address: None,
            method: "GET",
            path: "/",
            rule: None,
            status,
            origin,
            is_sent: origin == "upstream",
            is_complete,
            request_bytes: 0,
            response_bytes: 0,
            duration: Duration::ZERO,
            own_time: Duration::ZERO,
            upstream_time: Duration::ZERO,
            problem: Some("path-not-allowed"),
            correlation_id: None,
        });
    }
    now.requests = activity.recent();
    now.spool = Ok(Totals {
        messages: 3,
        bytes: 2_000_000,
        damaged: 1,
        ..Totals::default()
    });
    let (text, _) = html(&now);
    assert_shows(
        &text,
        &[
            "caller disconnected<",
            "refused by bondgate<",
            "by bondgate<",
            "refused by Cisco<",
            "Cisco failed<",
            "from the spool<",
            "by Cisco, cut short<",
            "not sent",
            "path-not-allowed",
            "The last 7, the newest first; 4 of them failed or were refused.",
            "2.0 MB",
        ],
    );
    now.spool = Err(std::io::ErrorKind::PermissionDenied.into());
    assert_shows(&html(&now).0, &["It cannot be read"]);
}
