//! What callers on other hosts see of a problem.

use bondgate::simulator::Options;

use crate::harness::{PULL, Setup, simulator};

#[tokio::test]
async fn a_caller_on_another_host_sees_the_code_and_no_name_of_a_file() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", crate::harness::DEMO_SECRET, "")
        .listener("127.0.0.1:0", "trusted_proxies = [\"127.0.0.0/8\"]");
    let secret = setup.directory.path().join("cisco.secret");
    std::fs::remove_file(&secret).unwrap();
    let mut daemon = setup.start_without_token().await;
    daemon.logged("no valid token").await;
    let path = secret.to_str().unwrap();
    let request =
        |field: &str| format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\n{field}Connection: close\r\n\r\n");

    let here = daemon.send(request("")).await;
    let elsewhere = daemon.send(request("X-Forwarded-For: 10.1.2.3\r\n")).await;

    for answer in [&here, &elsewhere] {
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(answer.body().contains("urn:bondgate:problem:file-"), "{answer:?}");
    }
    assert!(here.body().contains(path), "{here:?}");
    assert!(
        !elsewhere.0.contains(path) && elsewhere.body().contains("check --live"),
        "{elsewhere:?}"
    );
}
