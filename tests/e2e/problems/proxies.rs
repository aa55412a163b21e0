//! The URL of an outbound proxy, from each of its places, and NO_PROXY.

use bondgate::simulator::Options;

use super::{check_with, lines};
use crate::corporate::Corporate;
use crate::harness::{DEMO_SECRET, Setup, bondgate, finished, simulator};

/// Passwords that belong into a URL only percent-encoded, with a mark to search for.
const PASSWORDS: [&str; 5] = [
    "p@sshunter2",
    "123#hunter2",
    "a/hunter2",
    "a?hunter2",
    "hunter2%zz",
];

#[tokio::test]
async fn a_proxy_password_that_is_not_percent_encoded_is_refused_in_file_environment_and_configuration_alike()
{
    let cisco = simulator(Options::default()).await;
    for password in PASSWORDS {
        let url = format!("http://user:{password}@127.0.0.1:9");
        let upstream = |more: &str| {
            let setup = Setup::new().upstream("cisco", &cisco, "demo", DEMO_SECRET, more);
            setup.listener("127.0.0.1:0", "")
        };
        let in_file = upstream("");
        let file = in_file.file("proxy", &url).to_str().unwrap().to_owned();
        let in_configuration = upstream(&format!("proxy = {url:?}"));
        let of_environment = upstream("proxy = \"environment\"");
        for (setup, variable) in [
            (
                &in_file,
                ("BONDGATE__UPSTREAM__CISCO__PROXY__FILE", file.as_str()),
            ),
            (&in_configuration, ("NOTHING", "")),
            (&of_environment, ("HTTPS_PROXY", url.as_str())),
            (&of_environment, ("all_proxy", url.as_str())),
        ] {
            let ended = check_with(setup, &[variable]).await;
            let found = lines(&ended, "proxy-url-needs-encoding");
            assert_eq!((ended.code, found.len()), (Some(3), 1), "{variable:?} {ended:?}");
            assert!(
                found[0].contains("upstream.cisco.proxy: ") && found[0].contains("@ as %40"),
                "{found:?}"
            );
            assert!(!format!("{ended:?}").contains("hunter2"), "{ended:?}");
        }
    }
}

#[tokio::test]
async fn an_unusable_proxy_of_the_environment_is_an_error_and_not_a_direct_connection() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "proxy = \"environment\"");
    for (name, value) in [
        ("HTTPS_PROXY", "socks5://127.0.0.1:9"),
        ("ALL_PROXY", "http://127.0.0.1:port"),
    ] {
        for subcommand in ["check", "run"] {
            let mut command = bondgate();
            command
                .args([subcommand, "--config"])
                .arg(setup.config_file())
                .env(name, value);
            let ended = finished(command).await;
            let found = lines(&ended, "proxy-url-wrong");
            assert_eq!((ended.code, found.len()), (Some(3), 1), "{ended:?}");
            assert!(found[0].contains(name), "{found:?}");
        }
    }
    assert_eq!(cisco.tokens.count(), 0);
}

#[tokio::test]
async fn an_encoded_password_arrives_at_the_proxy_and_one_without_a_scheme_is_http() {
    let cisco = simulator(Options::default()).await;
    let proxy = Corporate::start().await;
    let setup = Setup::open(&cisco, "proxy = \"environment\"");
    let url = format!("user:p%40ss%23@{}", proxy.address);
    setup.environment("https_proxy", &url).start().await;
    let asked = proxy.asked().concat().to_ascii_lowercase();
    assert!(
        asked.contains("proxy-authorization: basic dxnlcjpwqhnziw==\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn no_proxy_entries_with_a_port_or_a_star_are_honoured_and_others_are_reported() {
    let cisco = simulator(Options::default()).await;
    let port = cisco.address().port();
    let proxy = Corporate::start().await;
    for (list, is_direct) in [
        (format!("localhost:{port}"), true),
        ("*.localhost".to_owned(), true),
        ("*".to_owned(), true),
        (format!("localhost:{}", port ^ 1), false),
        (String::new(), false),
    ] {
        let before = proxy.asked().len();
        Setup::open(&cisco, "proxy = \"environment\"")
            .environment("HTTPS_PROXY", &format!("http://{}", proxy.address))
            .environment("NO_PROXY", &list)
            .start()
            .await;
        assert_eq!(proxy.asked().len() == before, is_direct, "{list}");
    }
    let setup = Setup::open(&cisco, "proxy = \"environment\"");
    let environment = [
        ("HTTPS_PROXY", "http://127.0.0.1:9"),
        ("NO_PROXY", "10.0.*, .corp, http://a.corp"),
    ];
    let ended = check_with(&setup, &environment).await;
    let found = lines(&ended, "no-proxy-entry-ignored");
    assert_eq!((ended.code, found.len()), (Some(0), 2), "{ended:?}");
}

#[tokio::test]
async fn a_proxy_file_that_becomes_unusable_is_reported_and_no_part_of_it_is_resolved_or_called() {
    let cisco = simulator(Options::default()).await;
    let proxy = Corporate::start().await;
    let setup = Setup::open(&cisco, "");
    let file = setup.file("proxy", &format!("http://{}", proxy.address));
    let setup = setup.environment("BONDGATE__UPSTREAM__CISCO__PROXY__FILE", file.to_str().unwrap());
    let mut daemon = setup.start().await;
    std::fs::write(&file, "http://user:123#hunter2@proxy.corp:3128").unwrap();
    daemon.logged("\"problem\":\"proxy-url-needs-encoding\"").await;
    let resolved = |line: &&String| line.contains("\"name\":\"user\"") || line.contains("hunter2");
    assert_eq!(daemon.log().iter().find(resolved), None);
}

#[tokio::test]
async fn a_proxy_file_may_end_with_line_breaks_and_a_second_line_is_named() {
    let cisco = simulator(Options::default()).await;
    let proxy = Corporate::start().await;
    let setup = Setup::open(&cisco, "");
    let url = format!("http://{}", proxy.address);
    let file = setup.file("proxy", &format!("{url}\nhttp://user:hunter2@other\n"));
    let setup = setup.environment("BONDGATE__UPSTREAM__CISCO__PROXY__FILE", file.to_str().unwrap());
    let ended = check_with(&setup, &[]).await;
    let found = lines(&ended, "proxy-url-has-lines");
    assert_eq!((ended.code, found.len()), (Some(3), 1), "{ended:?}");
    assert!(!ended.stderr.contains("hunter2"), "{ended:?}");
    std::fs::write(&file, format!("{url} \r\n\n")).unwrap();
    setup.start().await;
    assert!(!proxy.asked().is_empty());
}
