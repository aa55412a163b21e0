//! Every combination, and callers that come rarely: `.ci/intermediaries`.

use std::time::Duration;

use super::caller::Connections;
use super::process::{KINDS, Kind};
use super::{Case, HEADER, TICKETS, assert_none, run};

#[tokio::test]
#[ignore = "takes minutes; run by .ci/intermediaries"]
async fn each_ticket_arrives_once_in_every_combination_of_intermediary_caller_and_size() {
    println!("{HEADER}");
    let mut failures = Vec::new();
    for kind in KINDS {
        let mut cases = Vec::new();
        for connections in [Connections::OneShot, Connections::KeepAlive] {
            for is_trusted in [false, true] {
                for kilobytes in [1, 12, 40, 400] {
                    cases.push(Case {
                        kind,
                        connections,
                        is_trusted,
                        kilobytes,
                    });
                }
            }
        }
        run(cases, &mut failures).await;
    }
    assert_none(&failures);
}

/// HAProxy closes connections that were idle for 5 s (`pool-purge-delay`), with a reset.
#[tokio::test]
#[ignore = "takes minutes; run by .ci/intermediaries"]
async fn a_caller_that_pulls_every_seven_seconds_through_haproxy_gets_each_ticket_once() {
    const PERIOD: Duration = Duration::from_secs(7);
    let mut stands = Vec::new();
    let kinds = KINDS.into_iter().filter(|kind| matches!(kind, Kind::Haproxy(_)));
    for kind in kinds {
        for connections in [Connections::OneShot, Connections::KeepAlive] {
            for is_trusted in [false, true] {
                let case = Case {
                    kind,
                    connections,
                    is_trusted,
                    kilobytes: 1,
                };
                stands.push(case.start().await);
            }
        }
    }
    // Twice over: what would come again has time to.
    let mut period = tokio::time::interval(PERIOD);
    for _ in 0..2 * TICKETS {
        period.tick().await;
        for stand in &mut stands {
            stand.received.is_emptied = stand.caller.pull(&mut stand.received).await;
        }
    }
    println!("one pull every {PERIOD:?}:\n{HEADER}");
    let mut failures = Vec::new();
    for stand in &mut stands {
        let (line, failure) = stand.finish().await;
        println!("{line}");
        failures.extend(failure);
    }
    assert_none(&failures);
}
