//! What systemd is notified of: ready, watchdog pings, reloads, stopping.

use bondgate::simulator::{Endpoint, Fault, Kind, On, Options};
use tokio::net::UnixDatagram;

use crate::harness::{PATIENCE, PUSH, Setup, seen_when, simulator};
use crate::wire::Caller;

/// systemd's end of the conversation.
struct Systemd {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl Systemd {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Self { socket, directory }
    }

    fn starts(&self, setup: Setup) -> Setup {
        let path = self.directory.path().join("notify");
        setup.environment("NOTIFY_SOCKET", path.to_str().unwrap())
    }

    async fn heard(&self) -> String {
        let mut room = [0; 256];
        let length = tokio::time::timeout(PATIENCE, self.socket.recv(&mut room)).await;
        let length = length.expect("a message").unwrap();
        String::from_utf8(room[..length].to_vec()).unwrap()
    }

    /// Waits for a state, past watchdog pings.
    async fn heard_but_pings(&self) -> String {
        loop {
            let message = self.heard().await;
            if message != "WATCHDOG=1" {
                return message;
            }
        }
    }
}

#[tokio::test]
async fn systemd_is_notified_of_ready_watchdog_pings_and_stopping_in_this_order() {
    let cisco = simulator(Options::default()).await;
    let systemd = Systemd::new();
    let setup = systemd
        .starts(Setup::at(&cisco))
        .environment("WATCHDOG_USEC", "200000");
    let mut daemon = setup.start().await;
    assert!(systemd.heard_but_pings().await.starts_with("READY=1\n"));
    for _ in 0..5 {
        assert_eq!(systemd.heard().await, "WATCHDOG=1");
    }

    // The pings go on during a stop that takes a while.
    cisco.script(Fault::on(On::Push, Kind::Slow { ms: 1000 }));
    let mut caller = Caller::to(daemon.address()).await;
    let request = format!("POST {PUSH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    caller.say(request).await;
    seen_when(&cisco, |seen| {
        seen.iter().any(|seen| seen.endpoint == Endpoint::Push)
    })
    .await;
    daemon.signal("TERM");
    assert!(systemd.heard_but_pings().await.starts_with("STOPPING=1\n"));
    for _ in 0..3 {
        assert_eq!(systemd.heard().await, "WATCHDOG=1");
    }
    caller.message().await;
    assert_eq!(daemon.ended().await.code(), Some(0));
}

#[tokio::test]
async fn ready_is_reported_without_a_token_and_the_watchdog_is_pinged_only_where_it_is_enabled() {
    let cisco = simulator(Options::default()).await;
    cisco.script(Fault::on(On::Token, Kind::Hang).forever());
    let systemd = Systemd::new();
    // The variables of another process's watchdog, which would be pinged each millisecond.
    let setup = systemd
        .starts(Setup::at(&cisco))
        .environment("WATCHDOG_USEC", "2000")
        .environment("WATCHDOG_PID", "1");
    let mut daemon = setup.start_without_token().await;
    assert!(systemd.heard().await.starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(daemon.ask("/livez").await.status(), 200);
    }
    daemon.signal("TERM");
    assert!(
        systemd.heard().await.starts_with("STOPPING=1\n"),
        "nothing between them"
    );
    daemon.ended().await;
}

#[tokio::test]
async fn the_begin_and_end_of_a_reload_are_reported_whether_or_not_it_succeeds() {
    let cisco = simulator(Options::default()).await;
    let systemd = Systemd::new();
    let daemon = systemd.starts(Setup::at(&cisco)).start().await;
    assert!(systemd.heard().await.starts_with("READY=1\n"));
    let file = daemon.directory.path().join("bondgate.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let mut last = 0;
    for text in [good.clone(), "broken".to_owned(), good] {
        std::fs::write(&file, text).unwrap();
        daemon.signal("HUP");
        let told = systemd.heard().await;
        let mut lines = told.lines();
        assert_eq!(lines.next(), Some("RELOADING=1"));
        // What systemd knows it by (sd_notify(3)), for Type=notify-reload.
        let when = lines.next().and_then(|line| line.strip_prefix("MONOTONIC_USEC="));
        let when: u64 = when.expect("the time of the reload").parse().unwrap();
        assert!(when > last, "{when} is after {last}");
        last = when;
        assert!(systemd.heard().await.starts_with("READY=1\n"), "{told}");
    }
}
