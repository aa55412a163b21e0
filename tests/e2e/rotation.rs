//! Tokens that come and go under load, on a clock that runs faster; nothing here sleeps.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bondgate::simulator::{Client, Endpoint, Fault, Handle, Kind, On, Seen};
use http::StatusCode;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::harness::{DEMO_SECRET, PATIENCE, Setup, send};
use crate::inside::{Inside, fast_simulator, get};
use crate::raw_upstream::RawUpstream;
use crate::wire::Caller;

const HOUR: Duration = Duration::from_secs(3600);
const ECHO: &str = "/simulator/echo";

const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const DONE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone";

/// Callers that send GET and POST without a pause, each on a connection of its own, until they are stopped.
pub(crate) struct Load {
    callers: JoinSet<()>,
    stopping: Arc<AtomicUsize>,
    responses: Arc<AtomicUsize>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr, callers: usize) -> Self {
        let (stopping, responses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut running = JoinSet::new();
        for number in 0..callers {
            let (stopping, responses) = (stopping.clone(), responses.clone());
            running.spawn(async move {
                let mut caller = Caller::to(address).await;
                let request = if number % 2 == 0 {
                    format!("GET {ECHO} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                } else {
                    format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
                };
                while stopping.load(Ordering::Relaxed) == 0 {
                    caller.say(&request).await;
                    let response = caller.message().await;
                    assert_eq!(response.status(), 200, "{response:?}");
                    responses.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self {
            callers: running,
            stopping,
            responses,
        }
    }

    /// Ends the load; returns the number of requests, each of which got 200.
    pub(crate) async fn stop(self) -> usize {
        self.stopping.store(1, Ordering::Relaxed);
        self.callers.join_all().await;
        self.responses.load(Ordering::Relaxed)
    }
}

fn setup(cisco: &Handle) -> Setup {
    Setup::open(cisco, "")
}

fn token_requests(seen: &[Seen]) -> usize {
    seen.iter()
        .filter(|request| request.endpoint == Endpoint::Token)
        .count()
}

/// Waits until so many tokens were issued.
async fn issued(cisco: &Handle, count: usize) {
    let reached = tokio::time::timeout(PATIENCE * 20, cisco.tokens.wait_for(count)).await;
    reached.expect("the tokens are issued");
}

async fn assert_rotations(rotations: usize) {
    // A token lives for 0.8 s: a machine that stands still for half of that fails the test.
    let cisco = fast_simulator(12, Duration::from_secs(10)).await;
    let daemon = Inside::start(setup(&cisco), 12);
    assert_eq!(daemon.get(ECHO).await.status(), 200);

    let began = Instant::now();
    let load = Load::start(daemon.address, 64);
    issued(&cisco, rotations + 1).await;
    let took = began.elapsed();
    let responses = load.stop().await;

    println!("{rotations} rotations under {responses} requests of 64 callers in {took:.0?}: all got 200");
    assert_eq!(cisco.tokens.refused(), 0, "none was sent with an expired token");
    assert_eq!(cisco.tokens.max_concurrent(), 1);
    assert!(responses > 10 * rotations);
}

#[tokio::test]
async fn twenty_rotations_under_load_fail_no_request() {
    let _turn = crate::harness::heavy_or_hasty().await;
    assert_rotations(20).await;
}

#[tokio::test]
#[ignore = "takes a minute of two processors; run by .ci/run"]
async fn two_hundred_rotations_under_load_fail_no_request() {
    assert_rotations(200).await;
}

#[tokio::test]
#[ignore = "takes seven minutes; run by .ci/soak"]
async fn a_thousand_rotations_under_load_fail_no_request() {
    assert_rotations(1000).await;
}

#[tokio::test]
async fn a_hundred_requests_at_the_moment_of_expiry_are_one_token_request() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = fast_simulator(1, HOUR).await;
    let daemon = Inside::start(setup(&cisco), 1);
    assert_eq!(daemon.get(ECHO).await.status(), 200);
    cisco.forget_seen();

    // What a machine finds that slept for two hours.
    cisco.tokens.advance(2 * HOUR);
    daemon.clock.set_wall(2 * HOUR, false);
    assert_eq!(daemon.token().await["state"], "expired");
    let mut requests = JoinSet::new();
    let barrier = Arc::new(Barrier::new(100));
    for _ in 0..100 {
        let (barrier, address) = (barrier.clone(), daemon.address);
        requests.spawn(async move {
            barrier.wait().await;
            send(address, get(ECHO)).await.status()
        });
    }

    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(token_requests(&cisco.seen()), 1);
    assert_eq!(cisco.tokens.refused(), 0, "the expired token was not sent");
}

#[tokio::test]
async fn a_wall_clock_set_two_hours_either_way_fails_no_request_and_causes_no_storm() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = fast_simulator(1, HOUR).await;
    let daemon = Inside::start(setup(&cisco), 1);
    assert_eq!(daemon.get(ECHO).await.status(), 200);
    for (back, token_requests_then) in [(false, 2), (true, 2), (true, 2), (false, 2)] {
        let load = Load::start(daemon.address, 4);
        daemon.clock.set_wall(2 * HOUR, back);
        for _ in 0..100 {
            assert_eq!(daemon.get(ECHO).await.status(), 200);
        }
        load.stop().await;
        assert_eq!(cisco.tokens.count(), token_requests_then);
    }
    // The last response came while our clock was two hours ahead.
    assert!(
        daemon.token().await["clock_skew_s"].as_i64().unwrap() <= -7198,
        "as of the last response"
    );
    assert_eq!(cisco.tokens.refused(), 0);
}

#[tokio::test]
async fn fifty_rejections_at_once_cause_one_refresh_and_fifty_replays_and_a_late_one_causes_neither() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let (cisco, upstream) = (fast_simulator(1, HOUR).await, RawUpstream::bind().await);
    let daemon = Inside::start(Setup::apart(&cisco, &upstream.url(), &upstream.ca_pem, ""), 1);

    let mut requests = JoinSet::new();
    for _ in 0..51 {
        requests.spawn(send(daemon.address, get("/x")));
    }
    let mut old = None;
    let mut lines = Vec::new();
    for _ in 0..51 {
        let mut line = upstream.accept().await;
        let bearer = line.head().await.field("authorization").unwrap().to_owned();
        assert_eq!(
            *old.get_or_insert(bearer.clone()),
            bearer,
            "all go out with one token"
        );
        lines.push(line);
    }
    let mut late = lines.pop().unwrap();
    for mut line in lines {
        line.say(REFUSED).await;
    }
    for _ in 0..50 {
        let mut line = upstream.accept().await;
        let head = line.head().await;
        assert_ne!(
            head.field("authorization"),
            old.as_deref(),
            "the replay has a newer token"
        );
        line.say(DONE).await;
    }
    assert_eq!(cisco.tokens.count(), 2, "one refresh for fifty refusals");
    late.say(REFUSED).await;
    let mut line = upstream.accept().await;
    assert_ne!(line.head().await.field("authorization"), old.as_deref());
    line.say(DONE).await;

    let responses = requests.join_all().await;
    assert!(
        responses.iter().all(|response| response.status() == 200),
        "{responses:?}"
    );
    assert_eq!(daemon.token().await["state"], "fresh", "nothing is fetched");
    assert_eq!(cisco.tokens.count(), 2, "and none for the late one");
    assert_eq!(daemon.metric("bondgate_replays_total").await, 51);
}

#[tokio::test]
async fn tokens_that_are_always_rejected_cause_no_loop_and_the_caller_gets_the_upstreams_response() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = fast_simulator(1, HOUR).await;
    let daemon = Inside::start(setup(&cisco), 1);
    cisco.script(Fault::on(On::Path(ECHO.into()), Kind::status(StatusCode::UNAUTHORIZED)).forever());

    for _ in 0..500 {
        let response = daemon.get(ECHO).await;
        assert_eq!(
            (response.status(), response.field("proxy-status")),
            (401, None),
            "{response:?}"
        );
    }

    let fetched = cisco.tokens.count();
    assert!(fetched <= 6, "{fetched} tokens for 500 refusals");
    let token = daemon.token().await;
    assert_eq!(token["state"], "degraded");
    assert_eq!(token["last_error"]["kind"], "rejected");
}

#[tokio::test]
async fn tokens_that_are_rejected_at_each_rare_call_are_reported() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = fast_simulator(60, HOUR).await;
    let daemon = Inside::start(setup(&cisco), 60);
    assert_eq!(daemon.get(ECHO).await.status(), 200);
    cisco.script(Fault::on(On::Path(ECHO.into()), Kind::status(StatusCode::UNAUTHORIZED)).forever());

    for call in 0..3 {
        assert_eq!(daemon.get(ECHO).await.status(), 401);
        // The token that the replay was refused with is replaced too, after a wait.
        issued(&cisco, 3 + 2 * call).await;
        let token = daemon.token().await;
        assert_eq!(token["last_error"]["kind"], "rejected", "{token}");
        let sent = daemon.clock.now().monotonic;
        daemon.clock.sleep_until(sent + Duration::from_secs(65)).await;
        assert_eq!(
            daemon.token().await["state"],
            "fresh",
            "it was not refused for a minute"
        );
    }
}

#[tokio::test]
async fn only_masherys_403_for_a_rejected_token_causes_a_refresh() {
    let cisco = fast_simulator(1, HOUR).await;
    let support = "preset = \"cisco-support\"\nrules = \"any\"\nwait = \"10s\"";
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, support)
        .listener("127.0.0.1:0", "");
    let daemon = Inside::start(setup, 1);
    let refusal = |code: &'static str| Kind::Status {
        code: 403,
        headers: vec![("x-mashery-error-code".to_owned(), code.to_owned())],
        body: "<h1>Forbidden</h1>".to_owned(),
    };
    assert_eq!(daemon.get(ECHO).await.status(), 200);

    cisco.script(Fault::on(
        On::Path(ECHO.into()),
        refusal("ERR_403_NOT_AUTHORIZED"),
    ));
    assert_eq!(daemon.get(ECHO).await.status(), 200, "it is replayed");
    assert_eq!(cisco.tokens.count(), 2);

    for code in ["ERR_403_DEVELOPER_OVER_RATE", "ERR_403_DEVELOPER_INACTIVE"] {
        cisco.script(Fault::on(On::Path(ECHO.into()), refusal(code)));
        let response = daemon.get(ECHO).await;
        assert_eq!((response.status(), response.body()), (403, "<h1>Forbidden</h1>"));
    }
    cisco.script(Fault::on(
        On::Path(ECHO.into()),
        Kind::status(StatusCode::FORBIDDEN),
    ));
    assert_eq!(daemon.get(ECHO).await.status(), 403);
    assert_eq!(cisco.tokens.count(), 2, "no other 403 is about the token");
}

/// A secret as Kubernetes mounts it: a link into a directory that is a link itself, which is replaced.
struct Volume(PathBuf);

impl Volume {
    fn new(directory: &Path, secret: &str) -> Self {
        let volume = Self(directory.join("volume"));
        std::fs::create_dir(&volume.0).unwrap();
        std::os::unix::fs::symlink("..data/client_secret", volume.file()).unwrap();
        volume.swap(secret);
        volume
    }

    fn file(&self) -> PathBuf {
        self.0.join("client_secret")
    }

    fn swap(&self, secret: &str) {
        let versions = std::fs::read_dir(&self.0).unwrap().count();
        let name = format!("..version-{versions}");
        std::fs::create_dir(self.0.join(&name)).unwrap();
        std::fs::write(self.0.join(&name).join("client_secret"), secret).unwrap();
        let link = self.0.join("..data_tmp");
        std::os::unix::fs::symlink(&name, &link).unwrap();
        std::fs::rename(link, self.0.join("..data")).unwrap();
    }
}

#[tokio::test]
async fn a_secret_rotated_by_a_data_swap_under_load_fails_no_request() {
    let _turn = crate::harness::heavy_or_hasty().await;
    let cisco = fast_simulator(16, Duration::from_secs(10)).await;
    let setup = Setup::new()
        .upstream("cisco", &cisco, "demo", DEMO_SECRET, "rules = \"any\"")
        .listener("127.0.0.1:0", "");
    let volume = Volume::new(setup.directory.path(), DEMO_SECRET);
    let secret_file = volume.file().display().to_string();
    let daemon = Inside::start(setup.environment("BONDGATE_CLIENT_SECRET_FILE", &secret_file), 16);
    assert_eq!(daemon.get(ECHO).await.status(), 200);
    let load = Load::start(daemon.address, 8);

    for round in 0..10 {
        let secret = format!("secret-{round}");
        let client = Client {
            id: "demo".to_owned(),
            secret: secret.clone(),
        };
        cisco.options().clients = vec![client];
        volume.swap(&secret);
        // A token that was certainly requested with the new secret, and one more.
        issued(&cisco, cisco.tokens.count() + 2).await;
    }

    let responses = load.stop().await;
    println!("ten rotations of the secret under {responses} requests");
    assert_eq!(cisco.tokens.refused(), 0);
}
