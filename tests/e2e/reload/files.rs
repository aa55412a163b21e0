//! Files that the configuration names, and the configuration file where it is watched: changes take effect without a
//! signal.

use bondgate::simulator::Options;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{APPLIED, REJECTED, UNCHANGED, file, reload, replace, rewrite, status};
use crate::harness::{PULL, Setup, read_one, simulator};
use crate::tls_listeners::Certificates;

#[tokio::test]
async fn replaced_certificates_are_used_and_trusted_without_a_signal() {
    let cisco = simulator(Options::default()).await;
    let (first, second) = (Certificates::new(), Certificates::new());
    let mut daemon = first.daemon(&cisco, true).await;
    assert_eq!(first.pulled(&daemon, &[], true).await.unwrap().1.status(), 200);

    // Certificate and key do not match while only one of them is replaced.
    replace(&daemon, "server.pem", &second.server.0);
    daemon.logged(REJECTED).await;
    assert_eq!(first.pulled(&daemon, &[], true).await.unwrap().1.status(), 200);
    replace(&daemon, "client-ca.pem", &second.ca);
    replace(&daemon, "server-key.pem", &second.server.1);
    daemon.logged(APPLIED).await;

    assert_eq!(second.pulled(&daemon, &[], true).await.unwrap().1.status(), 200);
    assert!(first.pulled(&daemon, &[], true).await.is_err());
    let stranger = Certificates {
        client: first.client,
        ..second
    };
    assert!(stranger.pulled(&daemon, &[], true).await.is_err());
}

#[tokio::test]
async fn an_open_connection_is_served_as_long_as_the_client_ca_file_accepts_its_certificate() {
    let cisco = simulator(Options::default()).await;
    let (first, second) = (Certificates::new(), Certificates::new());
    let mut daemon = first.daemon(&cisco, true).await;
    let stream = TcpStream::connect(daemon.address()).await.unwrap();
    let mut stream = first.shaken(stream, &[], true).await.unwrap();
    let both = format!("{}{}", first.ca, second.ca);
    for (reloads, ca, is_accepted) in [(0, &first.ca, true), (1, &both, true), (2, &second.ca, false)] {
        if reloads > 0 {
            replace(&daemon, "client-ca.pem", ca);
            daemon.logged_times(APPLIED, reloads).await;
        }
        // No rule allows this path, so the connection stays open.
        let request = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let response = read_one(&mut stream).await;
        assert_eq!(response.status(), 403, "{reloads}: {response:?}");
        let is_refused = response.body().contains("client_ca_file");
        assert_eq!(is_refused, !is_accepted, "{reloads}: {response:?}");
    }
}

#[tokio::test]
async fn a_replaced_ca_file_is_trusted_and_the_old_token_serves_meanwhile() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let both = format!("{}{}", cisco.ca_pem(), Certificates::new().ca);
    replace(&daemon, "cisco-ca.pem", &both);
    daemon.logged("upstream.cisco.ca_file (its file)").await;
    assert_eq!(status(&daemon, PULL, "localhost", "").await, 200);
    cisco.tokens.wait_for(2).await;
}

#[tokio::test]
async fn a_watched_configuration_is_reloaded_without_a_signal() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco).environment("BONDGATE__SERVER__WATCH", "true");
    let mut daemon = setup.start().await;
    rewrite(&daemon, |text| {
        text.replace("[[listener]]\n", "[[listener]]\nhealth = \"/healthz\"\n")
    });
    daemon.logged("listener[0].health").await;
    assert_eq!(status(&daemon, "/healthz", "localhost", "").await, 200);
    rewrite(&daemon, |text| text.replace("health", "helth"));
    daemon.logged(REJECTED).await;
    assert_eq!(status(&daemon, "/healthz", "localhost", "").await, 200);
}

#[tokio::test]
async fn a_change_of_a_file_that_an_unwatched_configuration_names_does_not_reload_it() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    setup.file("callers", "itsm:first-key\n");
    let keys = format!(
        "keys = {{ file = {:?} }}\n",
        setup.directory.path().join("callers")
    );
    let mut daemon = setup.start().await;
    rewrite(&daemon, |text| {
        text.replace("[[listener]]\n", &format!("[[listener]]\n{keys}"))
    });
    reload(&mut daemon, APPLIED).await;
    rewrite(&daemon, |text| {
        text.replace("[[listener]]\n", "[[listener]]\nhealth = \"/healthz\"\n")
    });
    replace(&daemon, "callers", "itsm:second-key\n");
    daemon.logged("listener[0].keys (its file)").await;
    let key = "X-Bondgate-Key: second-key\r\n";
    assert_eq!(status(&daemon, "/healthz", "localhost", key).await, 403);
}

#[tokio::test]
async fn a_rejected_configuration_stays_reported_when_a_file_that_the_active_one_names_changes() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = Setup::at(&cisco).start().await;
    let configured = daemon.status().await["configured"].clone();
    let right = std::fs::read_to_string(file(&daemon, "bondgate.toml")).unwrap();
    rewrite(&daemon, |text| text.replace("client_id", "clientid"));
    reload(&mut daemon, REJECTED).await;

    replace(&daemon, "cisco-ca.pem", &format!("{}\n", cisco.ca_pem()));
    daemon.logged("upstream.cisco.ca_file (its file)").await;
    let status = daemon.status().await;
    assert_eq!(status["problems"][0]["code"], "config-key-unknown", "{status}");
    assert_eq!(status["configured"], configured);

    replace(&daemon, "bondgate.toml", &right);
    reload(&mut daemon, UNCHANGED).await;
    let status = daemon.status().await;
    assert!(status["problems"].as_array().unwrap().is_empty(), "{status}");
}
