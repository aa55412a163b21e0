//! Which callers have a message, and what the next one gets.

use std::time::Duration;

use bondgate::simulator::{Client, Fault, Kind, On, Options, Seen};

use super::{ask, files, is_pull, is_redelivered, message, on_disk, pull, pulls, request, spool_of};
use crate::harness::{Setup, seen_when, simulator};
use crate::wire::Caller;

#[tokio::test]
async fn a_message_whose_caller_left_before_it_came_answers_the_next_pull_and_nothing_is_asked_of_cisco() {
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
        daemon.logged("left before its answer").await;

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
        daemon.logged_times("a pulled message was delivered", 2).await;
    }
}

#[tokio::test]
async fn a_message_cut_in_its_middle_comes_again_whole_and_before_the_ones_behind_it() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
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
    let mut caller = Caller::to(daemon.address()).await;
    let again = ask(&mut caller).await;
    assert!(is_redelivered(&again) && again.body == large.as_bytes());
    assert_eq!(ask(&mut caller).await.text(), message(2));
    daemon.logged_times("did not reach its caller", 2).await;
    assert_eq!(pulls(&cisco), 2);
}

#[tokio::test]
async fn a_message_is_delivered_by_the_next_request_or_by_the_end_of_the_connection() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    for number in 1..=3 {
        cisco.put_raw_message("demo", message(number));
    }
    let spool = spool_of(&daemon);
    let mut caller = Caller::to(daemon.address()).await;
    assert_eq!(ask(&mut caller).await.text(), message(1));
    assert_eq!(files(&spool, "msg").len(), 1, "it is kept until a sign comes");
    assert_eq!(ask(&mut caller).await.text(), message(2));
    daemon.logged("a pulled message was delivered").await;
    caller.finish().await;
    daemon.logged_times("a pulled message was delivered", 2).await;
    // HTTP/1.0, which closes by itself.
    let old = daemon
        .send(format!(
            "GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n",
            crate::harness::PULL
        ))
        .await;
    assert_eq!(old.body(), message(3));
    daemon.logged_times("a pulled message was delivered", 3).await;
    assert_eq!(files(&spool, "msg"), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn requests_that_were_sent_ahead_are_no_sign_that_a_message_was_read() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    cisco.put_raw_message("demo", message(2));
    // Both requests are here before the first answer is.
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 200 }));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET").repeat(2)).await;
    seen_when(&cisco, |seen| {
        seen.iter().filter(|seen| is_pull(seen)).count() == 2
    })
    .await;
    // Nothing of either answer is read: closing now is a reset.
    drop(caller);
    daemon.logged("did not reach its caller").await;
    let mut caller = Caller::to(daemon.address()).await;
    for number in 1..=2 {
        let again = ask(&mut caller).await;
        assert_eq!(again.text(), message(number));
        assert!(is_redelivered(&again));
    }
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
async fn a_reset_takes_back_what_an_open_connection_had_for_seconds() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    let spool = spool_of(&daemon);
    let mut caller = Caller::to(daemon.address()).await;
    assert_eq!(ask(&mut caller).await.text(), message(1));
    let provisional = async {
        while files(&spool, "sent").is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, provisional)
        .await
        .expect("an open connection has it provisionally");
    caller.reset();
    daemon.logged("did not reach its caller").await;
    assert!(is_redelivered(&pull(&daemon).await));
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
            let mut caller = Caller::to(address).await;
            let mut got = Vec::new();
            for _ in 0..5 {
                got.push(ask(&mut caller).await.text().to_owned());
            }
            caller.finish().await;
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
async fn an_empty_queue_and_an_error_are_passed_on_and_not_kept() {
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
async fn what_asks_for_a_part_of_a_message_does_not_go_to_cisco() {
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
async fn a_pull_goes_on_when_its_caller_may_wait_no_longer() {
    let cisco = simulator(Options::default()).await;
    let daemon = on_disk(&cisco)
        .environment("BONDGATE__UPSTREAM__CISCO__TIMEOUT__HEAD", "300ms")
        .start()
        .await;
    cisco.put_raw_message("demo", message(1));
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 1000 }));
    let late = pull(&daemon).await;
    late.is_ours(504, "the pull goes on");
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
async fn a_message_never_answers_the_pull_of_another_client() {
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
    let mut caller = Caller::to(daemon.addresses()[0]).await;
    caller.say(request("GET")).await;
    seen_when(&cisco, |seen| seen.iter().any(is_pull)).await;
    caller.reset();
    daemon.logged("had left").await;
    let mut caller = Caller::to(daemon.addresses()[1]).await;
    assert!(ask(&mut caller).await.text().contains("No messages available"));
    let mut caller = Caller::to(daemon.addresses()[0]).await;
    assert_eq!(ask(&mut caller).await.text(), message(1));
    caller.finish().await;
}

#[tokio::test]
async fn a_half_closed_caller_gets_its_message_and_has_it_when_its_system_does() {
    let cisco = simulator(Options::default()).await;
    let mut daemon = on_disk(&cisco).start().await;
    cisco.put_raw_message("demo", message(1));
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    caller.finish().await;
    assert_eq!(caller.message().await.text(), message(1));
    daemon.logged("a pulled message was delivered").await;
}

#[tokio::test]
async fn a_request_for_a_message_is_held_whole_and_may_not_be_long() {
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
