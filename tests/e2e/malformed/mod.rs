//! A table of malformed and borderline requests on raw sockets, each with the answer it must get, before
//! an upstream that records every head: what is refused leaves no trace there, nor does what follows it
//! where the connection had to end.

use std::collections::BTreeMap;
use std::sync::Arc;

use bondgate::simulator::{Handle, Options, Seen};

use crate::harness::{Daemon, Setup, relayed, simulator};
use crate::wire::{Caller, End};

mod framings;
mod heads;
mod honest;
mod targets;

/// What must come of the connection and of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Where the request ends is not known: nothing more is read.
    Closed,
    /// The request was read to its end: the next one is served.
    Open,
    /// Either of them is right, as the answer says.
    Either,
    /// The body turns out to be none: the head may be upstream, the whole request never.
    Cut,
}

/// Bytes that must be refused.
#[derive(Clone)]
struct Case {
    bytes: Vec<u8>,
    statuses: &'static [u16],
    then: Then,
}

fn case(statuses: &'static [u16], then: Then, bytes: impl Into<Vec<u8>>) -> Case {
    let bytes = bytes.into();
    Case {
        bytes,
        statuses,
        then,
    }
}

/// The commonest case: 400, and the end.
fn malformed(bytes: impl Into<Vec<u8>>) -> Case {
    case(&[400], Then::Closed, bytes)
}

/// How a case's bytes are sent.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Alone, and the caller's end is closed behind them.
    Alone,
    /// With a good request behind them.
    Pipelined,
    /// The same in two writes.
    InPieces,
}

const FOLLOWING: &str = "HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Sends a case and judges the answer, what becomes of the connection, and what the upstream saw.
async fn is_refused(daemon: &Daemon, cisco: &Handle, case: &Case, manner: Manner) -> Vec<Seen> {
    let shown = case.bytes[..case.bytes.len().min(200)].escape_ascii().to_string();
    let what = format!("{manner:?} {:?} {shown}", case.then);
    let mut bytes = case.bytes.clone();
    if !matches!(manner, Manner::Alone) {
        bytes.extend_from_slice(format!("GET /smuggled {FOLLOWING}").as_bytes());
    }
    let mut caller = Caller::to(daemon.address()).await;
    match manner {
        Manner::InPieces => {
            let (first, second) = bytes.split_at(case.bytes.len() * 2 / 3);
            caller.say(first).await;
            tokio::task::yield_now().await;
            caller.say(second).await;
        }
        Manner::Alone | Manner::Pipelined => caller.say(&bytes).await,
    }
    if matches!(manner, Manner::Alone) {
        caller.finish().await;
    }

    let answer = caller.message().await;
    assert!(case.statuses.contains(&answer.status()), "{what}: {answer:?}");
    answer.is_ours(answer.status(), &what);
    let closes = answer.field("connection") == Some("close");
    match case.then {
        Then::Closed | Then::Cut => assert!(closes, "{what}: {answer:?}"),
        Then::Open => assert!(!closes, "{what}: {answer:?}"),
        Then::Either => {}
    }
    let next = if closes || matches!(manner, Manner::Alone) {
        0
    } else {
        let next = caller.message().await;
        assert_eq!(next.field("proxy-status"), None, "{what}: {next:?}");
        caller.finish().await;
        1
    };
    let (rest, end) = caller.rest().await;
    assert_eq!(
        (rest.escape_ascii().to_string().as_str(), end),
        ("", End::Closed),
        "{what}"
    );

    let seen = relayed(cisco);
    cisco.forget_seen();
    let (following, own): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|seen| seen.target == "/smuggled");
    assert_eq!(following.len(), next, "{what}: {seen:?}");
    if case.then == Then::Cut {
        assert!(
            own.iter()
                .all(|seen| !seen.body_complete && seen.status != Some(200)),
            "{what}: {seen:?}"
        );
    } else {
        assert!(own.is_empty(), "{what}: {seen:?}");
    }
    seen
}

/// Asserts that a head is one that every server reads alike.
fn is_well_formed(seen: &Seen, authority: &str) {
    assert_eq!(seen.header("host"), [authority], "{seen:?}");
    let framings = seen.header("content-length").len() + seen.header("transfer-encoding").len();
    assert!(framings <= 1, "{seen:?}");
    let authorization = seen.header("authorization");
    assert!(
        matches!(authorization[..], [bearer] if bearer.starts_with("Bearer ")),
        "{seen:?}"
    );
    let line = [&seen.method, &seen.target].map(|word| word.bytes().all(|byte| byte.is_ascii_graphic()));
    assert_eq!((line, seen.version), ([true, true], "HTTP/1.1"), "{seen:?}");
    assert!(seen.target.starts_with('/'), "{seen:?}");
    for (name, value) in &seen.headers {
        assert!(!name.contains('_'), "{seen:?}");
        assert!(
            value
                .chars()
                .all(|char| char == '\t' || !char.is_control() || char >= '\u{80}'),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn every_malformed_request_is_refused_and_every_honest_oddity_served() {
    let cisco = simulator(Options::default()).await;
    let limits = "[limits]\nbody = \"1KiB\"\n";
    let daemon = Arc::new(Setup::open(&cisco, "").and(limits).start().await);
    cisco.forget_seen();
    let mut seen = Vec::new();
    let mut faults = Vec::new();
    let mut counts = BTreeMap::new();
    let mut wrong = 0;

    for (group, cases) in [
        ("heads", heads::cases()),
        ("targets", targets::cases()),
        ("framings", framings::cases()),
    ] {
        counts.insert(group, cases.len());
        for case in &cases {
            for manner in [Manner::Alone, Manner::Pipelined, Manner::InPieces] {
                let (daemon, upstream, case) = (daemon.clone(), cisco.clone(), case.clone());
                let checked = async move { is_refused(&daemon, &upstream, &case, manner).await };
                // One that fails has reported why; the others are checked too.
                if let Ok(more) = tokio::spawn(checked).await {
                    seen.extend(more);
                } else {
                    wrong += 1;
                    cisco.forget_seen();
                }
            }
        }
        faults.extend(cases);
    }
    let honest = honest::cases();
    for case in &honest {
        let (daemon, upstream, case) = (daemon.clone(), cisco.clone(), case.clone());
        let checked = async move { honest::is_served(&daemon, &upstream, &case).await };
        if let Ok(more) = tokio::spawn(checked).await {
            seen.extend(more);
        } else {
            wrong += 1;
            cisco.forget_seen();
        }
    }

    seen.extend(relayed(&cisco));
    let authority = cisco.url().replace("https://", "");
    for seen in &seen {
        is_well_formed(seen, &authority);
    }
    let mut distinct: Vec<&[u8]> = faults.iter().map(|case| &case.bytes[..]).collect();
    distinct.sort_unstable();
    distinct.dedup();
    println!(
        "{} refused ({counts:?}), {} of them distinct, three manners each; {} served; {} heads upstream",
        faults.len(),
        distinct.len(),
        honest.len(),
        seen.len()
    );
    assert_eq!(wrong, 0);
    assert!(distinct.len() >= 300 && honest.len() >= 30);
}
