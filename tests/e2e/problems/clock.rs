//! A machine whose clock is wrong, by libfaketime.

use bondgate::simulator::Options;

use super::live::{checked_codes, leaf, tls_server, trusted};
use crate::harness::{Setup, simulator};

/// Sets the clock of the programs of a test; `time` is one of libfaketime's.
fn at_time(setup: Setup, time: &str) -> Setup {
    let folders = std::fs::read_dir("/usr/lib")
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let libraries = folders.map(|folder| folder.join("faketime/libfaketime.so.1"));
    let library = libraries
        .into_iter()
        .find(|library| library.exists())
        .expect("libfaketime is installed");
    setup
        .environment("LD_PRELOAD", library.to_str().unwrap())
        .environment("FAKETIME", time)
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
}

#[tokio::test]
#[ignore = "needs libfaketime; .ci/run installs it"]
async fn a_clock_that_is_earlier_than_the_program_is_the_one_problem() {
    let cisco = simulator(Options::default()).await;
    let setup = at_time(Setup::at(&cisco), "@2019-06-01 12:00:00");
    // The token of 2019 is granted and used: no certificate of this test depends on the time.
    let mut daemon = setup.start_without_token().await;
    daemon.logged("\"problem\":\"clock-wrong\"").await;

    let mut params = leaf(&["localhost"]);
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2025, 1, 1), rcgen::date_time_ymd(2090, 1, 1));
    let (url, ca_pem) = tls_server(trusted(&params)).await;
    let setup = at_time(Setup::apart(&cisco, &url, &ca_pem, ""), "@2019-06-01 12:00:00");
    assert_eq!(
        checked_codes(&setup).await,
        ["clock-wrong"],
        "and no certificate that is not yet valid"
    );
}

#[tokio::test]
#[ignore = "needs libfaketime; .ci/run installs it"]
async fn a_clock_that_is_late_or_early_is_named_beside_the_dates_of_a_certificate() {
    let cisco = simulator(Options::default()).await;
    let mut params = leaf(&["localhost"]);
    (params.not_before, params.not_after) =
        (rcgen::date_time_ymd(2025, 1, 1), rcgen::date_time_ymd(2028, 1, 1));
    let (url, ca_pem) = tls_server(trusted(&params)).await;
    let setup = at_time(Setup::apart(&cisco, &url, &ca_pem, ""), "@2028-06-01 12:00:00");
    let codes = checked_codes(&setup).await;
    assert_eq!(codes, ["clock-skew", "certificate-expired"]);
    let mut daemon = setup.start().await;
    let answer = daemon.get("/simulator/echo").await;
    for text in ["expired on 2028-01-01", "clock says 2028-06-01", "set the clock"] {
        assert!(answer.body().contains(text), "{text}: {answer:?}");
    }
    daemon.logged("\"problem\":\"clock-skew\"").await;
}
