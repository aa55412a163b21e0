//! Real intermediaries between callers and the daemon: each ticket arrives once, although HAProxy closes its
//! server connections with a reset.
//!
//! What has to hold is asserted; everything else is counted, and printed as a table.

mod caller;
mod full;
mod process;

use std::time::Duration;

use bondgate::simulator::Options;

use self::caller::{Caller, Connections, Received, ticket};
use self::process::{Intermediary, KINDS, Kind};
use crate::harness::{Daemon, Setup, simulator};

/// One combination that is run.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: Kind,
    connections: Connections,
    /// Whether the daemon lists the intermediary in `trusted_proxies`, and the intermediary names the caller.
    is_trusted: bool,
    kilobytes: usize,
}

/// A combination with everything that it needs.
struct Stand {
    case: Case,
    daemon: Daemon,
    // Ends before the daemon does.
    _intermediary: Intermediary,
    caller: Caller,
    received: Received,
}

const TICKETS: usize = 10;
/// Intermediaries close idle connections some seconds after a response: HAProxy after 5 s at the earliest. Nothing
/// may come again because of that.
const IDLE: Duration = Duration::from_secs(7);
/// A run in which messages fail all the time ends after this.
const MOST_RESPONSES: usize = 15 * TICKETS;
const LONGEST: Duration = Duration::from_secs(15);
/// Without `trusted_proxies`, tickets up to this size have to arrive once.
const SMALL: usize = 12;

/// Shortened, so that what fails is tried again within the test.
const PAUSES: [&str; 6] = ["0s", "20ms", "50ms", "100ms", "200ms", "400ms"];

impl Case {
    fn is_required(&self) -> bool {
        self.is_trusted || self.kilobytes <= SMALL
    }

    async fn start(self) -> Stand {
        let cisco = simulator(Options::default()).await;
        for number in 1..=TICKETS {
            cisco.put_raw_message("demo", ticket(number, self.kilobytes << 10));
        }
        let daemon = start_daemon(&cisco, self.is_trusted).await;
        let intermediary = self.kind.start(daemon.address(), self.is_trusted).await;
        Stand {
            case: self,
            caller: Caller::new(intermediary.address(), self.connections),
            received: Received::default(),
            daemon,
            _intermediary: intermediary,
        }
    }
}

/// A daemon with a spool directory behind an intermediary at 127.0.0.1.
async fn start_daemon(cisco: &bondgate::simulator::Handle, is_trusted: bool) -> Daemon {
    let more = if is_trusted {
        "trusted_proxies = [\"127.0.0.1\"]"
    } else {
        ""
    };
    let setup = Setup::new()
        .upstream("cisco", cisco, "demo", crate::harness::DEMO_SECRET, "")
        .listener("127.0.0.1:0", more);
    let directory = setup.directory.path().join("spool");
    let pauses = crate::spool::pauses(&PAUSES);
    setup
        .and(&format!("[spool]\ndirectory = {directory:?}\n{pauses}"))
        .environment("BONDGATE_LOG", "bondgate=debug")
        .start()
        .await
}

impl Stand {
    async fn pull_all(&mut self) {
        self.caller
            .pull_all(&mut self.received, MOST_RESPONSES, LONGEST)
            .await;
    }

    /// One line of the table, and what is wrong with it.
    async fn finish(&mut self) -> (String, Option<String>) {
        let dead_letters = counter(&self.daemon, "spool_set_aside_total").await;
        let failed = counter(&self.daemon, "spool_failed_deliveries_total").await;
        let (case, received) = (self.case, &self.received);
        let is_good = received.arrived() == TICKETS
            && received.duplicates() == 0
            && received.is_in_order()
            && received.is_emptied
            && received.broken.is_empty()
            && dead_letters == 0;
        let verdict = match (is_good, case.is_required()) {
            (true, _) => "once",
            (false, true) => "FAILED",
            (false, false) => "counted",
        };
        let line = format!(
            "| {:<32} | {:<10} | {:<7} | {:>6} | {TICKETS:>7} | {:>7} | {:>9} | {:>10} | {:<8} | {dead_letters:>12} | \
             {failed:>6} | {:>3} | {:>6} | {:<7} |",
            case.kind.name(),
            case.connections.name(),
            if case.is_trusted { "yes" } else { "no" },
            case.kilobytes,
            received.arrived(),
            received.tickets.len(),
            received.duplicates(),
            if received.is_in_order() { "yes" } else { "no" },
            received.refused,
            received.broken.len(),
            verdict,
        );
        let failure = (verdict == "FAILED").then(|| {
            format!(
                "{case:?}: the tickets came as {:?}{}; dead letters: {dead_letters}; not whole: {:?}",
                received.tickets,
                if received.is_emptied {
                    ""
                } else {
                    ", and the queue was not empty then"
                },
                received.broken
            )
        });
        (line, failure)
    }
}

const HEADER: &str = "| intermediary                     | caller     | trusted | kB     | tickets | arrived | responses \
                      | duplicates | in order | dead letters | failed | 503 | broken | verdict |\n\
                      |---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Runs combinations one after the other, then has each pull once more after all connections were idle.
async fn run(cases: impl IntoIterator<Item = Case>, failures: &mut Vec<String>) {
    let mut stands = Vec::new();
    for case in cases {
        let mut stand = case.start().await;
        stand.pull_all().await;
        stands.push(stand);
    }
    tokio::time::sleep(IDLE).await;
    for stand in &mut stands {
        stand.pull_all().await;
        let (line, failure) = stand.finish().await;
        println!("{line}");
        failures.extend(failure);
    }
}

fn assert_none(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} combinations failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A counter of the daemon.
async fn counter(daemon: &Daemon, name: &str) -> u64 {
    let metrics = daemon.ask("/metrics").await;
    let line = format!("bondgate_{name} ");
    let value = metrics.body().lines().find_map(|found| found.strip_prefix(&line));
    value
        .and_then(|value| value.parse().ok())
        .expect("there is such a counter")
}

#[tokio::test]
#[ignore = "needs haproxy, nginx, apache2 and squid; .ci/run installs them"]
async fn each_ticket_arrives_once_through_each_intermediary() {
    let mut cases = Vec::new();
    for kind in KINDS {
        let sizes: &[usize] = if kind == Kind::Haproxy("") {
            &[1, 12, 400]
        } else {
            &[12, 400]
        };
        for connections in [Connections::OneShot, Connections::KeepAlive] {
            for is_trusted in [false, true] {
                for &kilobytes in sizes {
                    let case = Case {
                        kind,
                        connections,
                        is_trusted,
                        kilobytes,
                    };
                    // What is only counted is left to the full run.
                    cases.extend(case.is_required().then_some(case));
                }
            }
        }
    }
    println!("{HEADER}");
    let mut failures = Vec::new();
    run(cases, &mut failures).await;
    assert_none(&failures);
}
