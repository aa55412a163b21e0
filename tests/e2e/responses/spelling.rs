//! Names of fields keep the spelling that they came with, and responses their reason phrase: old tools search for one
//! spelling. Names that bondgate adds are written like `Content-Length`.

use bondgate::simulator::{Fault, Handle, Kind, On, Options};

use crate::harness::{Answer, Daemon, PULL, Setup, send, simulator};
use crate::raw_upstream::RawUpstream;
use crate::wire::Caller;

async fn before(upstream: &RawUpstream) -> (Daemon, Handle) {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::apart(&cisco, &upstream.url(), &upstream.ca_pem, "");
    (setup.start().await, cisco)
}

fn names(head: &Answer) -> Vec<&str> {
    let lines = head.0.lines().skip(1).take_while(|line| !line.is_empty());
    lines.filter_map(|line| Some(line.split_once(':')?.0)).collect()
}

fn assert_has(head: &Answer, lines: &[&str]) {
    for line in lines {
        assert!(head.0.lines().any(|found| found == *line), "{line:?} in {head:?}");
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn names_of_fields_keep_their_spelling_both_ways() {
    let upstream = RawUpstream::bind().await;
    let (daemon, _cisco) = before(&upstream).await;
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(
            "POST /a HTTP/1.1\r\nhOST: localhost\r\nSOAPAction: \"a\"\r\nX-Correlation-ID: 1\r\nx-lower: 1\r\n\
             X-UPPER: 1\r\nX-Many: 1\r\nx-many: 2\r\ncontent-length: 2\r\nVIA: 1.0 fred\r\nAUTHORIZATION: x\r\n\r\nhi",
        )
        .await;
    let mut line = upstream.accept().await;
    let request = line.message().await;
    assert_has(
        &request.head,
        &[
            "SOAPAction: \"a\"",
            "X-Correlation-ID: 1",
            "x-lower: 1",
            "X-UPPER: 1",
            "X-Many: 1",
            "x-many: 2",
            "content-length: 2",
            "VIA: 1.0 fred",
            "Via: 1.1 bondgate",
        ],
    );
    line.say(
        "HTTP/1.1 200 Sehr gut\r\nETag: \"a\"\r\nx-transaction-id: 1\r\nX-REQUEST-ID: 2\r\nContent-length: 2\r\n\
         server: a\r\n\r\nok",
    )
    .await;
    let response = caller.message().await;
    assert_has(
        &response.head,
        &[
            "HTTP/1.1 200 Sehr gut",
            "ETag: \"a\"",
            "x-transaction-id: 1",
            "X-REQUEST-ID: 2",
            "Content-length: 2",
            "server: a",
            "Via: 1.1 bondgate",
        ],
    );
    assert!(names(&response.head).contains(&"Date"), "{response:?}");
}

#[tokio::test]
async fn spelling_is_kept_from_the_first_request_of_a_connection_that_needs_it() {
    let upstream = RawUpstream::bind().await;
    let (daemon, _cisco) = before(&upstream).await;
    let mut caller = Caller::to(daemon.address()).await;
    let usual = "GET /a HTTP/1.1\r\nHost: localhost\r\nX-Usual: 1\r\n\r\n";
    let unusual = "POST /a HTTP/1.1\r\nHost: localhost\r\nx-unusual: 1\r\nContent-Length: 2\r\n\r\nhi";
    // The second request has arrived when the first one is served.
    caller.say(&format!("{usual}{unusual}{usual}")).await;
    let mut line = upstream.accept().await;
    for field in ["X-Usual: 1", "x-unusual: 1", "X-Usual: 1"] {
        assert_has(&line.message().await.head, &[field]);
        line.say(OK).await;
        assert_eq!(caller.message().await.head.status(), 200, "{field}");
    }
}

#[tokio::test]
async fn names_that_bondgate_adds_are_in_title_case() {
    let upstream = RawUpstream::bind().await;
    let (daemon, _cisco) = before(&upstream).await;
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await;
    let mut line = upstream.accept().await;
    let request = line.message().await;
    assert_eq!(
        names(&request.head),
        ["Host", "X-Correlation-Id", "Via", "Authorization"]
    );
    line.say("HTTP/1.1 200 OK\r\n\r\nok").await;
    line.finish().await;
    let head = caller.head().await;
    let mut found = names(&head);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "Connection",
            "Date",
            "Transfer-Encoding",
            "Via",
            "X-Correlation-Id"
        ]
    );

    // Its own responses, by hyper and by the head filter.
    for (request, status) in [
        (
            "GET / HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: close\r\n\r\n",
            421,
        ),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
    ] {
        let response = daemon.send(request).await;
        assert_eq!(response.status(), status);
        let names = names(&response);
        for name in [
            "Content-Type",
            "Content-Length",
            "Proxy-Status",
            "Connection",
            "Date",
        ] {
            assert!(names.contains(&name), "{name} in {response:?}");
        }
        assert!(
            names
                .iter()
                .all(|name| name.starts_with(|c: char| c.is_ascii_uppercase())),
            "{names:?}"
        );
    }
}

#[tokio::test]
async fn a_wanted_key_is_asked_for_in_the_registered_spelling() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::open(&cisco, "");
    let keys = setup.file("keys", "tool:0123456789abcdef0123456789abcdef\n");
    let with_keys = format!("keys = {{ file = {keys:?} }}");
    let daemon = setup.listener("127.0.0.1:0", &with_keys).start().await;
    let request = "GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let response = send(daemon.addresses()[1], request).await;
    assert_eq!(response.status(), 401);
    assert_has(
        &response,
        &["WWW-Authenticate: Basic realm=\"bondgate\", charset=\"UTF-8\""],
    );
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_spelled_as_before() {
    let upstream = RawUpstream::bind().await;
    let (daemon, _cisco) = before(&upstream).await;
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say("POST /a HTTP/1.1\r\nhost: localhost\r\nSOAPAction: a\r\nx-lower: 1\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    let mut line = upstream.accept().await;
    let first = line.message().await;
    line.say("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
        .await;
    let second = tokio::select! {
        second = line.message() => second,
        mut other = upstream.accept() => {
            let second = other.message().await;
            line = other;
            second
        }
    };
    assert_eq!(names(&first.head), names(&second.head));
    assert_has(&second.head, &["SOAPAction: a", "x-lower: 1"]);
    line.say(OK).await;
    assert_eq!(caller.message().await.text(), "ok");
}

const MESSAGE: &str = "HTTP/1.1 200 Hier ist eins\r\nETag: \"a\"\r\ncontent-type: application/json\r\n\
                       X-Transaction-ID: 7\r\nX-Many: 1\r\nx-many: 2\r\nConnection: close\r\nContent-length: 12\r\n\r\n\
                       {\"Calls\":{}}";

async fn pull(daemon: &Daemon) -> Caller {
    let mut caller = Caller::to(daemon.address()).await;
    caller
        .say(format!("GET {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    caller
}

fn is_spelled_alike(head: &Answer, is_redelivered: bool) {
    assert_has(
        head,
        &[
            "HTTP/1.1 200 Hier ist eins",
            "ETag: \"a\"",
            "content-type: application/json",
            "X-Transaction-ID: 7",
            "X-Many: 1",
            "x-many: 2",
            "Via: 1.1 bondgate",
        ],
    );
    assert_eq!(
        names(head).contains(&"Bondgate-Redelivered"),
        is_redelivered,
        "{head:?}"
    );
    assert_eq!(head.field("content-length"), Some("12"));
}

#[tokio::test]
async fn a_redelivered_message_keeps_its_reason_and_its_spelling_in_memory_on_disk_and_over_a_restart() {
    for (is_on_disk, restarts) in [(false, false), (true, false), (true, true)] {
        let cisco = simulator(Options::default()).await;
        let spool = tempfile::tempdir().unwrap();
        let setup = || {
            let setup = Setup::at(&cisco);
            let directory = spool.path().join("spool");
            if is_on_disk {
                setup.and(&format!("[spool]\ndirectory = {directory:?}\n"))
            } else {
                setup
            }
        };
        let mut daemon = setup().start().await;
        cisco.script(Fault::on(
            On::Pull,
            Kind::Raw {
                bytes: MESSAGE.into(),
            },
        ));
        let mut caller = pull(&daemon).await;
        is_spelled_alike(&caller.head().await, false);
        caller.reset();
        daemon
            .logged("delivery failed, message will be redelivered")
            .await;
        if restarts {
            daemon.signal("TERM");
            daemon.ended().await;
            daemon = setup().start().await;
        }
        let mut caller = pull(&daemon).await;
        let message = caller.message().await;
        assert_eq!(message.text(), "{\"Calls\":{}}");
        is_spelled_alike(&message.head, true);
        caller.finish().await;
        daemon.logged("pulled message delivered").await;
    }
}

#[tokio::test]
async fn a_body_that_is_not_there_has_the_length_0_upstream_where_one_is_expected() {
    let cisco = simulator(Options::default()).await;
    let daemon = Setup::open(&cisco, "").start().await;
    let mut caller = Caller::to(daemon.address()).await;
    for (method, lines, lengths) in [
        ("POST", "", &["0"][..]),
        ("PUT", "", &["0"]),
        ("PATCH", "", &["0"]),
        ("POST", "Content-Length: 0\r\n", &["0"]),
        ("GET", "", &[]),
        ("DELETE", "", &[]),
        ("OPTIONS", "", &[]),
    ] {
        caller
            .say(format!(
                "{method} /simulator/echo HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"
            ))
            .await;
        caller.message().await;
        let seen = cisco.seen().pop().unwrap();
        assert_eq!(seen.header("content-length"), lengths, "{method} {lines:?}");
        assert!(seen.header("transfer-encoding").is_empty(), "{method}");
    }
}
