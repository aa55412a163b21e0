//! When a message counts as delivered, and what the next request gets.

use bondgate::simulator::{Client, Fault, Kind, On, Options, Seen};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{
    ask, files, is_pull, is_redelivered, message, on_disk, pull, pull_at, pulls, request, spool_command,
    spool_of,
};
use crate::harness::{DEMO_SECRET, Setup, seen_when, simulator};
use crate::wire::Caller;

#[tokio::test]
async fn a_message_whose_caller_disconnected_early_is_delivered_to_the_next_request_without_a_pull() {
    for is_on_disk in [true, false] {
        let cisco = simulator(Options::default()).await;
        let setup = if is_on_disk {
            on_disk(&cisco)
        } else {
            Setup::at(&cisco)
        };
        let mut daemon = setup.start().await;
        cisco.put_raw_message("demo", message(1));
        cisco.put_raw_message("demo", message(2));
        cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 300 }));
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
        caller.reset();
        daemon.logged("disconnected before its response").await;

        let first = pull(&daemon).await;
        assert_eq!((first.status(), first.text()), (200, message(1).as_str()));
        assert!(is_redelivered(&first));
        assert_eq!(
            first.field("content-type"),
            Some("application/json;charset=UTF-8")
        );
        assert_eq!(pulls(&cisco), 1, "the message was here already");
        let second = pull(&daemon).await;
        assert_eq!(second.text(), message(2));
        assert!(!is_redelivered(&second));
        daemon.logged_times("pulled message delivered", 2).await;
    }
}

#[tokio::test]
async fn a_message_cut_in_its_middle_is_redelivered_whole_and_before_newer_ones() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).and("pauses = [\"0s\"]\n").start().await;
    // More than the sockets' buffers take.
    let large = format!("{{\"Calls\":\"{}\"}}", "x".repeat(24 << 20));
    cisco.put_raw_message("demo", large.clone());
    cisco.put_raw_message("demo", message(2));
    for _ in 0..2 {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        let head = caller.head().await;
        assert_eq!(head.status(), 200);
        caller.take(1000).await;
        caller.reset();
    }
    let again = pull(&daemon).await;
    assert!(is_redelivered(&again) && again.body == large.as_bytes());
    assert_eq!(pull(&daemon).await.text(), message(2));
    daemon
        .logged_times("delivery failed, message will be redelivered", 2)
        .await;
    assert_eq!(pulls(&cisco), 2);
}

#[tokio::test]
async fn a_failed_delivery_pauses_the_message_for_its_caller_and_another_caller_gets_it_at_once() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).and("pauses = [\"0s\", \"1h\"]\n").start().await;
    cisco.put_raw_message("demo", message(1));
    for failure in 1..=2 {
        let mut caller = Caller::to(daemon.address()).await;
        assert_eq!(ask(&mut caller).await.text(), message(1));
        caller.reset();
        daemon
            .logged_times("delivery failed, message will be redelivered", failure)
            .await;
    }
    let paused = pull(&daemon).await;
    paused.is_ours(
        503,
        "the next message is paused for caller 127.0.0.1 after failed deliveries (2)",
    );
    assert!(
        matches!(paused.field("retry-after").unwrap().parse().unwrap(), 3500..=3600),
        "{paused:?}"
    );
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Caller::over(other.connect(daemon.address()).await.unwrap());
    let got = ask(&mut other).await;
    assert_eq!((got.text(), is_redelivered(&got)), (message(1).as_str(), true));
    other.finish().await;
    daemon.logged("pulled message delivered").await;
    cisco.put_raw_message("demo", message(2));
    assert_eq!(
        pull(&daemon).await.text(),
        message(2),
        "the next message is not paused"
    );
}

#[tokio::test]
async fn a_message_is_delivered_when_its_caller_has_all_of_it_and_closes_the_connection() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    for number in 1..=3 {
        cisco.put_raw_message("demo", message(number));
    }
    let spool = spool_of(&daemon);
    for number in 1..=2 {
        let mut caller = Caller::to(daemon.address()).await;
        let answer = ask(&mut caller).await;
        assert_eq!(answer.text(), message(number));
        assert_eq!(
            answer.field("connection"),
            Some("close"),
            "the connection's last response"
        );
        caller.is_over().await;
        assert_eq!(
            files(&spool, "msg").len(),
            1,
            "it is held until the caller closes"
        );
        caller.finish().await;
        daemon.logged_times("pulled message delivered", number).await;
    }
    // HTTP/1.0, which closes by itself.
    let old = daemon
        .send(format!(
            "GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n",
            crate::harness::PULL
        ))
        .await;
    assert_eq!(old.body(), message(3));
    daemon.logged_times("pulled message delivered", 3).await;
    assert_eq!(files(&spool, "msg"), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_pipelined_request_is_not_begun_after_a_message() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    cisco.put_raw_message("demo", message(2));
    // Both requests are here before the first response is.
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 200 }));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET").repeat(2)).await;
    let first = caller.message().await;
    assert_eq!(first.text(), message(1));
    assert_eq!(first.field("connection"), Some("close"));
    caller.is_over().await;
    caller.finish().await;
    daemon.logged("pulled message delivered").await;
    assert_eq!(pulls(&cisco), 1);
    assert_eq!(pull(&daemon).await.text(), message(2));
}

#[tokio::test]
async fn a_response_without_a_message_leaves_the_connection_open() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    let mut caller = Caller::to(daemon.address()).await;
    for _ in 0..2 {
        let empty = ask(&mut caller).await;
        assert!(empty.text().contains("No messages available"));
        assert_eq!(empty.field("connection"), None);
    }
    cisco.put_raw_message("demo", message(1));
    assert_eq!(ask(&mut caller).await.text(), message(1));
}

#[tokio::test]
async fn a_message_that_its_caller_has_not_read_is_not_delivered_when_it_closes() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    // All of it fits into the caller's receive buffer, and is acknowledged.
    let body = format!("{{\"Calls\":\"{}\"}}", "x".repeat(60_000));
    cisco.put_raw_message("demo", body.clone());
    let mut caller = TcpStream::connect(daemon.address()).await.unwrap();
    caller.write_all(request("GET").as_bytes()).await.unwrap();
    caller.read_exact(&mut [0; 4096]).await.unwrap();
    // Its system resets the connection, since there is more to read.
    drop(caller);
    daemon
        .logged("delivery failed, message will be redelivered")
        .await;
    let again = pull(&daemon).await;
    assert!(again.text() == body && is_redelivered(&again));
}

#[tokio::test]
async fn a_message_on_an_open_connection_is_not_offered_to_another() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    for number in 1..=2 {
        cisco.put_raw_message("demo", message(number));
    }
    let mut one = Caller::to(daemon.address()).await;
    assert_eq!(ask(&mut one).await.text(), message(1));
    let other = pull(&daemon).await;
    assert_eq!(
        (other.text(), is_redelivered(&other)),
        (message(2).as_str(), false)
    );
}

#[tokio::test]
async fn a_reset_before_spool_settle_is_a_failed_delivery_and_afterwards_it_changes_nothing() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco)
        .and("settle = \"1s\"\npauses = [\"0s\"]\n")
        .start()
        .await;
    cisco.put_raw_message("demo", message(1));
    let mut caller = Caller::to(daemon.address()).await;
    assert_eq!(ask(&mut caller).await.text(), message(1));
    caller.reset();
    daemon
        .logged("delivery failed, message will be redelivered")
        .await;

    let mut caller = Caller::to(daemon.address()).await;
    assert!(is_redelivered(&ask(&mut caller).await));
    daemon.logged("pulled message delivered").await;
    caller.reset();
    assert!(pull(&daemon).await.text().contains("No messages available"));
}

#[tokio::test]
async fn behind_a_trusted_proxy_a_message_is_delivered_when_the_proxy_has_acknowledged_it() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, "")
        .listener("127.0.0.1:0", "trusted_proxies = [\"127.0.0.1\"]");
    let directory = setup.directory.path().join("spool");
    let mut daemon = setup
        .and(&format!("[spool]\ndirectory = {directory:?}\n"))
        .start()
        .await;
    for number in 1..=2 {
        cisco.put_raw_message("demo", message(number));
    }
    let relayed = request("GET").replace("\r\n\r\n", "\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n");
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(relayed).await;
    assert_eq!(caller.message().await.text(), message(1));
    daemon.logged("pulled message delivered").await;
    caller.reset();
    // The same address without the header calls for itself.
    let mut caller = Caller::to(daemon.address()).await;
    assert_eq!(ask(&mut caller).await.text(), message(2));
    caller.reset();
    daemon
        .logged("delivery failed, message will be redelivered")
        .await;
    assert_eq!(pull(&daemon).await.text(), message(2));
}

#[tokio::test]
async fn a_delivered_message_is_retained_and_one_command_delivers_it_again_before_newer_ones() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    for number in 1..=3 {
        cisco.put_raw_message("demo", message(number));
    }
    for number in 1..=2 {
        assert_eq!(pull(&daemon).await.text(), message(number));
    }
    daemon.logged_times("pulled message delivered", 2).await;
    assert_eq!(files(&spool_of(&daemon), "done").len(), 2);
    let requeued = spool_command(&daemon, &["requeue", "--since", "1h"]).await;
    assert_eq!(requeued.code, Some(0), "{requeued:?}");
    assert!(
        requeued.stdout.contains("2 messages will be delivered again"),
        "{requeued:?}"
    );
    for number in 1..=3 {
        let again = pull(&daemon).await;
        assert_eq!(
            (again.text(), is_redelivered(&again)),
            (message(number).as_str(), number < 3)
        );
    }
    daemon.logged_times("pulled message delivered", 5).await;

    let listed = spool_command(&daemon, &["list"]).await;
    assert!(
        listed.stdout.contains("`bondgate spool requeue NAME --config "),
        "without the options of the list, the command may find another spool: {listed:?}"
    );
    let name = listed
        .stdout
        .split_whitespace()
        .find(|word| word.contains('/'))
        .unwrap();
    assert_eq!(spool_command(&daemon, &["requeue", name]).await.code, Some(0));
    assert_eq!(pull(&daemon).await.text(), message(1));
    daemon.logged_times("pulled message delivered", 6).await;
    let all = spool_command(&daemon, &["requeue", "--all"]).await;
    assert!(
        all.stdout.contains("3 messages will be delivered again"),
        "{all:?}"
    );
    let nothing = spool_command(&daemon, &["requeue", "--all"]).await;
    assert!(nothing.stdout.starts_with("nothing to requeue"), "{nothing:?}");
    for wrong in [
        &["requeue"][..],
        &["requeue", "--since", "yesterday"],
        &["requeue", "--all", name],
    ] {
        assert_eq!(spool_command(&daemon, wrong).await.code, Some(2), "{wrong:?}");
    }
    let unknown = spool_command(&daemon, &["requeue", "1234"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(
        unknown.stderr.contains("`bondgate spool list` names all"),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn a_caller_that_takes_no_message_is_reported_everywhere_and_takes_no_third_one_off_the_queue() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).and("pauses = [\"0s\"]\n").start().await;
    let large = |number| message(number).replace("INC", &"x".repeat(24 << 20));
    for number in 1..=4 {
        cisco.put_raw_message("demo", large(number));
    }
    for failure in 1..=6 {
        let mut caller = Caller::to(daemon.address()).await;
        caller.say(request("GET")).await;
        assert_eq!(caller.head().await.status(), 200);
        caller.reset();
        daemon.logged_times("will be redelivered", failure).await;
    }
    let what = "caller 127.0.0.1 takes no pulled message";
    daemon.logged("\"problem\":\"caller-takes-nothing\"").await;
    assert!(daemon.ask("/readyz").await.body().contains(what));
    assert_eq!(daemon.ask("/readyz").await.status(), 200);
    let mut status = daemon.status().await;
    assert!(
        status["problems"][0]["cause"].as_str().unwrap().contains(what),
        "{status}"
    );
    let status = status["spool"].take();
    assert_eq!((pulls(&cisco), status["set_aside"].as_u64()), (2, Some(0)));
    for number in 1..=4 {
        assert!(pull(&daemon).await.body == large(number).as_bytes(), "{number}");
        daemon.logged_times("pulled message delivered", number).await;
    }
    assert_eq!(daemon.ask("/readyz").await.body(), "ready\n");
}

#[tokio::test]
async fn callers_of_one_queue_pull_one_at_a_time_and_each_gets_a_message_of_its_own() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    for number in 0..40 {
        cisco.put_raw_message("demo", message(number));
    }
    let open = |seen: &[Seen]| {
        let pulls = seen.iter().filter(|seen| is_pull(seen));
        pulls
            .filter(|seen| seen.status.is_none() && !seen.abandoned)
            .count()
    };
    let watched = cisco.clone();
    let watch = tokio::spawn(async move { watched.wait_for(|seen| open(seen) > 1).await });
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let address = daemon.address();
        callers.spawn(async move {
            let mut got = Vec::new();
            for _ in 0..5 {
                got.push(pull_at(address).await.text().to_owned());
            }
            got
        });
    }
    let mut got: Vec<_> = callers.join_all().await.concat();
    got.sort();
    assert_eq!(got, (0..40).map(message).collect::<Vec<_>>());
    assert_eq!(pulls(&cisco), 40);
    watch.abort();
    assert!(
        watch.await.unwrap_err().is_cancelled(),
        "two pulls were at Cisco at once"
    );
}

#[tokio::test]
async fn an_empty_queue_and_an_error_are_passed_on_and_not_stored() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    let spool = spool_of(&daemon);
    let empty = pull(&daemon).await;
    assert_eq!((empty.status(), is_redelivered(&empty)), (200, false));
    assert!(empty.text().contains("No messages available"));
    cisco.script(Fault::on(
        On::Pull,
        Kind::status(http::StatusCode::INTERNAL_SERVER_ERROR),
    ));
    let error = pull(&daemon).await;
    assert_eq!(error.status(), 500);
    assert!(error.text().contains("Simulated fault"));
    for extension in ["pull", "msg", "lost"] {
        assert!(files(&spool, extension).is_empty(), "{extension}");
    }
    cisco.put_raw_message("demo", message(1));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("POST")).await;
    assert_eq!(caller.message().await.text(), message(1), "by POST too");
}

#[tokio::test]
async fn headers_that_request_a_part_of_a_message_are_not_sent_to_cisco() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(format!(
            "GET {} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nRange: bytes=0-1\r\n\
             If-None-Match: \"a\"\r\nIf-Modified-Since: x\r\nX-Correlation-ID: c1\r\n\r\n",
            crate::harness::PULL
        ))
        .await;
    assert_eq!(caller.message().await.text(), message(1));
    let seen = cisco.seen();
    let asked = seen.iter().find(|seen| is_pull(seen)).unwrap();
    for (name, is_sent) in [
        ("accept-encoding", false),
        ("range", false),
        ("if-none-match", false),
        ("if-modified-since", false),
        ("x-correlation-id", true),
    ] {
        assert_eq!(!asked.header(name).is_empty(), is_sent, "{name}");
    }
}

#[tokio::test]
async fn a_pull_goes_on_after_timeout_head() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco)
        .environment("BONDGATE__UPSTREAM__CISCO__TIMEOUT__HEAD", "300ms")
        .start()
        .await;
    cisco.put_raw_message("demo", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 1000 }));
    let late = pull(&daemon).await;
    late.is_ours(504, "the pull continues");
    // Until then no second one is sent.
    let answers = async {
        loop {
            let answer = pull(&daemon).await;
            if answer.status() == 200 {
                return answer;
            }
            answer.is_ours(503, "another pull of this queue is under way");
        }
    };
    let answer = tokio::time::timeout(crate::harness::PATIENCE, answers)
        .await
        .unwrap();
    assert_eq!(answer.text(), message(1));
    assert!(is_redelivered(&answer));
    assert_eq!(pulls(&cisco), 1);
}

#[tokio::test]
async fn a_message_is_never_delivered_to_another_client() {
    let clients = ["one", "two"].map(|id| Client {
        id: id.to_owned(),
        secret: "spool+0nly-secret".to_owned(),
    });
    let cisco = simulator(Options {
        clients: clients.to_vec(),
        ..Options::default()
    })
    .await;
    let setup = Setup::new()
        .upstream("one", &cisco, "one", "spool+0nly-secret", "")
        .upstream("two", &cisco, "two", "spool+0nly-secret", "")
        .listener("127.0.0.1:0", "upstream = \"one\"")
        .listener("127.0.0.1:0", "upstream = \"two\"");
    let directory = setup.directory.path().join("spool");
    let mut daemon = setup
        .and(&format!("[spool]\ndirectory = {directory:?}\n"))
        .start()
        .await;
    cisco.put_raw_message("one", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 300 }));
    let mut caller = Caller::to(daemon.addresses()[0]).await;
    caller.say(request("GET")).await;
    seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
    caller.reset();
    daemon
        .logged("caller disconnected before its message arrived")
        .await;
    let mut caller = Caller::to(daemon.addresses()[1]).await;
    assert!(ask(&mut caller).await.text().contains("No messages available"));
    let mut caller = Caller::to(daemon.addresses()[0]).await;
    assert_eq!(ask(&mut caller).await.text(), message(1));
    caller.finish().await;
}

#[tokio::test]
async fn a_message_to_a_half_closed_caller_is_delivered_when_its_system_has_acknowledged_it() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    caller.finish().await;
    assert_eq!(caller.message().await.text(), message(1));
    daemon.logged("pulled message delivered").await;
}

#[tokio::test]
async fn a_message_that_a_half_closed_caller_leaves_partly_unread_is_not_delivered() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    let body = format!("{{\"Calls\":\"{}\"}}", "x".repeat(12_000));
    cisco.put_raw_message("demo", body.clone());
    let mut caller = TcpStream::connect(daemon.address()).await.unwrap();
    caller.write_all(request("GET").as_bytes()).await.unwrap();
    caller.shutdown().await.unwrap();
    caller.read_exact(&mut [0; 3000]).await.unwrap();
    drop(caller);
    daemon
        .logged("delivery failed, message will be redelivered")
        .await;
    assert!(pull(&daemon).await.text() == body);
}

#[tokio::test]
async fn a_caller_that_stops_reading_is_reset_after_limits_stall_and_its_message_is_not_delivered() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco)
        .environment("BONDGATE__LIMITS__STALL", "1s")
        .start()
        .await;
    // All of it fits into the buffers of both systems, and the caller's receive buffer is small.
    let body = format!("{{\"Calls\":\"{}\"}}", "x".repeat(400_000));
    cisco.put_raw_message("demo", body.clone());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut caller = socket.connect(daemon.address()).await.unwrap();
    caller.write_all(request("GET").as_bytes()).await.unwrap();
    caller.read_exact(&mut [0; 100]).await.unwrap();
    daemon
        .logged("delivery failed, message will be redelivered")
        .await;
    assert!(pull(&daemon).await.text() == body);
    drop(caller);
}

#[tokio::test]
async fn a_stored_message_of_any_size_is_logged_as_completed() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    for (times, length) in [(1, 1000), (2, 300_000), (3, 2_000_000)] {
        let body = format!("{{\"Calls\":\"{}\"}}", "x".repeat(length));
        cisco.put_raw_message("demo", body.clone());
        assert!(pull(&daemon).await.text() == body);
        daemon.logged_times("request completed", times).await;
    }
}

#[tokio::test]
async fn the_body_of_a_request_for_a_message_may_hold_64_kib() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    for (length, status) in [(65_537, 413), (65_536, 200)] {
        let mut caller = Caller::to(daemon.address()).await;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n",
            crate::harness::PULL
        );
        caller.say(head + &"x".repeat(length)).await;
        assert_eq!(caller.message().await.status(), status, "{length}");
    }
    assert_eq!(pulls(&cisco), 1);
}
