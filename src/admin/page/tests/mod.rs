mod requests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::readiness::StopTimes;
use super::now::{ActiveProblem, UpstreamNow};
use super::*;
use crate::admin::{CertificateFacts, Facts, ListenerFacts};
use crate::problems::{Problem, Severity, api, files, token};
use crate::server::Phase;
use crate::spool::Totals;
use crate::telemetry::activity::Activity;
use crate::tls::FileCertificate;
use crate::token::{TokenState, TokenStatus};
use crate::upstream::ApiState;

const URL: &str = "https://api.example/";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_764_000_000 + seconds)
}

fn facts() -> Facts {
    Facts {
        started: at(0),
        configured: at(0),
        configuration: Some(PathBuf::from("/etc/bondgate/secret-name.toml")),
        rejected_reload: Arc::default(),
        listeners: vec![ListenerFacts {
            address: "localhost:8080".to_owned(),
            configured: "localhost:8080".to_owned(),
            bound: vec!["127.0.0.1:8080".to_owned(), "[::1]:8080".to_owned()],
            upstream: "cisco".to_owned(),
            access: vec!["caller keys".to_owned()],
            is_local: false,
            is_tls: true,
        }],
        certificates: vec![CertificateFacts {
            of: "listener 10.0.0.1:8080".to_owned(),
            file: PathBuf::from("/etc/bondgate/secret-name.pem"),
            is_authority: false,
            certificate: FileCertificate {
                subject: "CN=bondgate.internal".to_owned(),
                not_before: at(0),
                not_after: at(4_000_000),
            },
        }],
        upstreams: Vec::new(),
    }
}

/// An hour after the start, all is well.
fn well(facts: &Facts) -> Now<'_> {
    let mut token = TokenStatus::for_tests(at(3000));
    token.state = TokenState::Fresh;
    token.obtained = Some(at(3000));
    token.expires = Some(at(6600));
    token.next_attempt_in = Some(Duration::from_secs(1200));
    Now {
        at: at(3600),
        is_local: true,
        facts,
        phase: Phase::Serving,
        stop_times: None,
        running: 0,
        is_ready: true,
        problems: Vec::new(),
        upstreams: vec![UpstreamNow {
            name: "cisco".to_owned(),
            url: URL,
            token,
            has_token: true,
            api: Some(ApiState {
                last_response: Some((at(3590), 200)),
                problem: None,
                has_rejected: false,
            }),
            minutes: Activity::new().last_hour("cisco", at(3600)),
        }],
        spool: Ok(Totals::default()),
        delivered: 7,
        requests: Vec::new(),
        refusals: Vec::new(),
    }
}

fn problem(part: &str, problem: Problem, severity: Severity) -> ActiveProblem {
    ActiveProblem {
        part: part.to_owned(),
        subject: String::new(),
        problem,
        severity,
        since: at(3000),
    }
}

/// The page as a whole, and the title.
fn html(now: &Now<'_>) -> (String, String) {
    let sections = render(now, true);
    let page = Page {
        title: &sections.title,
        sections: &sections.all,
    };
    (page.render().unwrap(), sections.title)
}

fn assert_shows(html: &str, parts: &[&str]) {
    for part in parts {
        assert!(html.contains(part), "{part}:\n{html}");
    }
}

#[test]
fn a_page_without_problems_says_so_and_shows_every_part() {
    let facts = facts();
    let (html, title) = html(&well(&facts));
    assert_eq!(title, "Ready \u{b7} bondgate");
    assert_shows(
        &html,
        &[
            "class=\"verdict ok\"",
            "nothing fails",
            "No problem lasts.",
            "fresh</span>",
            "16 % of the token\u{2019}s lifetime have passed",
            "<span class=\"ago\">10 min ago</span>",
            "in 20 min",
            "responds</span>",
            "127.0.0.1:8080, [::1]:8080",
            "configured as localhost:8080<",
            "caller keys",
            "CN=bondgate.internal",
            "valid</span>",
            "7 delivered since the start",
            "None since the start.",
            "No request yet.",
            "Requests per minute</b> <span class=\"quiet\">no request<",
            "secret-name.toml",
        ],
    );
}

#[test]
fn a_degraded_token_is_a_warning_with_cause_fix_code_and_time() {
    let facts = facts();
    let mut now = well(&facts);
    now.upstreams[0].token.state = TokenState::Degraded;
    let failed = token::not_renewed_yet();
    now.problems = vec![problem("token of cisco", failed.clone(), Severity::Warning)];
    let (html, title) = html(&now);
    assert_eq!(title, "Ready, 1 warning \u{b7} bondgate");
    assert_shows(
        &html,
        &[
            "class=\"verdict warning\"",
            "degraded</span>",
            "the token is still valid",
            failed.code(),
            "<p class=\"fix\">",
            "Since <time datetime=\"2025-11-24T16:50:00Z\">",
        ],
    );
}

#[test]
fn an_api_that_fails_is_an_error_and_the_oldest_error_comes_first() {
    let facts = facts();
    let mut now = well(&facts);
    let cut = api::cut_short("api.example:443", "it reset the connection");
    now.upstreams[0].api = Some(ApiState {
        last_response: Some((at(3590), 502)),
        problem: Some((cut.clone(), at(3000))),
        has_rejected: false,
    });
    let newer = ActiveProblem {
        since: at(3500),
        ..problem("spool", cut.clone(), Severity::Error)
    };
    now.problems = vec![problem("API of cisco", cut, Severity::Error), newer];
    let (html, title) = html(&now);
    assert_eq!(title, "Ready, 2 errors \u{b7} bondgate");
    assert_shows(
        &html,
        &[
            "class=\"verdict error\"",
            "API of cisco: ",
            "fails</span>",
            "Last response 502",
        ],
    );
}

#[test]
fn an_api_that_has_only_rejected_a_token_has_responded() {
    let facts = facts();
    let mut now = well(&facts);
    let state = |last_response, has_rejected| ApiState {
        last_response,
        problem: None,
        has_rejected,
    };
    now.upstreams[0].api = Some(state(None, false));
    assert_shows(&html(&now).0, &["no response yet</span>"]);
    now.upstreams[0].api = Some(state(Some((at(3590), 401)), true));
    let (html, _) = html(&now);
    assert_shows(
        &html,
        &["rejected the token</span>", "state warning", "Last response 401"],
    );
}

#[test]
fn without_a_valid_token_it_says_that_first() {
    let facts = facts();
    let mut now = well(&facts);
    let upstream = &mut now.upstreams[0];
    upstream.token.state = TokenState::Misconfigured;
    upstream.token.expires = Some(at(3400));
    upstream.has_token = false;
    now.problems = vec![problem("token of cisco", token::not_yet(), Severity::Error)];
    let (text, title) = html(&now);
    assert_eq!(title, "No valid token, 1 error \u{b7} bondgate");
    assert_shows(&text, &["misconfigured</span>", "The token has expired"]);
    now.upstreams[0].token.expires = Some(at(6600));
    assert_shows(&html(&now).0, &["The API has rejected the present token."]);
    now.is_ready = false;
    assert_eq!(html(&now).1, "Not ready, 1 error \u{b7} bondgate");
    now.problems.clear();
    let (text, title) = html(&now);
    assert_eq!(title, "Not ready \u{b7} bondgate");
    assert_shows(&text, &["A token is being fetched."]);
}

#[test]
fn a_stop_is_shown_before_all_else() {
    let facts = facts();
    let mut now = well(&facts);
    now.phase = Phase::Draining;
    now.is_ready = false;
    now.stop_times = Some(StopTimes {
        began: at(3595),
        ends: at(3620),
    });
    now.running = 2;
    let (html, title) = html(&now);
    assert_eq!(title, "Stopping \u{b7} bondgate");
    assert_shows(
        &html,
        &[
            "class=\"verdict paused\"",
            "draining</dd>",
            "Requests that have begun (2 now) are finished",
            "Since <time datetime=\"2025-11-24T16:59:55Z\"><span class=\"ago\">5 s ago",
            ", until <time datetime=\"2025-11-24T17:00:20Z\"><span class=\"ago\">in 20 s",
        ],
    );
}

#[test]
fn a_caller_on_another_host_sees_no_file_and_no_process() {
    let facts = facts();
    let mut now = well(&facts);
    now.is_local = false;
    let private = files::keys_empty();
    now.problems = vec![problem("configuration", private, Severity::Error)];
    let (html, _) = html(&now);
    for wrong in ["secret-name", "Process"] {
        assert!(!html.contains(wrong), "{wrong}");
    }
    assert_shows(&html, &["CN=bondgate.internal"]);
}

#[test]
fn the_same_state_is_the_same_text_at_another_time_unless_relative_times_are_wanted() {
    let facts = facts();
    let mut now = well(&facts);
    let texts = |now: &Now<'_>, relative_times| -> Vec<String> {
        let sections = render(now, relative_times).all.into_iter();
        sections.map(|section| section.html).collect()
    };
    let (fixed, relative) = (texts(&now, false), texts(&now, true));
    now.at += Duration::from_secs(1);
    now.upstreams[0].token.next_attempt_in = Some(Duration::from_secs(1199));
    assert_eq!(texts(&now, false), fixed);
    now.at += Duration::from_secs(60);
    assert_ne!(texts(&now, true), relative);
}
