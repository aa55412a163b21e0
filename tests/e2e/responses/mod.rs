//! Two hundred odd responses, each as a response to GET, to HEAD, to a pull and to a token request: a caller gets
//! what was sent, or a complete 502, and never nothing; a message that was sent is delivered, or reported as lost.

mod cases;
mod spelling;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use bondgate::config::Config;
use bondgate::simulator::Options;
use bondgate::token::{Clock, TokenEndpoint, TokenSource as _};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::cases::{BODY, Body, Case, Length, Want};
use crate::harness::{Daemon, PATIENCE, Setup, simulator};
use crate::raw_upstream::RawUpstream;

/// How many callers there are at a time.
const AT_ONCE: usize = 8;

/// A response as a caller reads it from a connection that ends behind it.
#[derive(Debug)]
struct Response {
    line: String,
    lines: Vec<String>,
    body: Vec<u8>,
    /// Whether its body has the end that its head tells of.
    is_whole: bool,
}

impl Response {
    /// Reads a response out of all that came; nothing where not even its head is whole.
    fn parse(bytes: &[u8], has_body: bool) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let mut lines = bytes[..end].split(|byte| *byte == b'\n').map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            line.iter().map(|byte| char::from(*byte)).collect::<String>()
        });
        let mut response = Self {
            line: lines.next()?,
            lines: lines.collect(),
            body: Vec::new(),
            is_whole: true,
        };
        let rest = &bytes[end + 4..];
        let is_bodiless = matches!(response.line.get(9..12), Some("204" | "304"));
        if !has_body || is_bodiless {
            response.is_whole = rest.is_empty();
        } else if response.values("transfer-encoding") == ["chunked"] {
            (response.body, response.is_whole) = unchunked(rest);
        } else {
            response.body = rest.to_vec();
            let length = response
                .values("content-length")
                .first()
                .map(|length| length.parse());
            response.is_whole = length == Some(Ok(rest.len()));
        }
        Some(response)
    }

    fn values(&self, name: &str) -> Vec<&str> {
        let fields = self.lines.iter().filter_map(|line| line.split_once(':'));
        fields
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    fn is_ours(&self) -> bool {
        let status = self.values("proxy-status");
        status.iter().any(|status| status.starts_with("bondgate; error="))
    }
}

/// The data of chunks, and whether they end.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = rest.windows(2).position(|window| window == b"\r\n") else {
            return (body, false);
        };
        let size = std::str::from_utf8(&rest[..at]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return (body, false);
        };
        rest = &rest[at + 2..];
        if size == 0 {
            return (body, rest == b"\r\n");
        }
        let Some(data) = rest.get(..size + 2) else {
            return (body, false);
        };
        body.extend(&data[..size]);
        rest = &rest[size + 2..];
    }
}

/// Responds to `/KIND/NUMBER` with the row of that number.
async fn respond(upstream: RawUpstream, cases: Arc<Vec<Case>>) {
    loop {
        let stream = upstream.accept_when_called().await;
        let cases = cases.clone();
        tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            while let Some((method, number)) = request(&mut stream).await {
                let case = &cases[number];
                let (bytes, body) = case.bytes();
                let bytes = if method == "HEAD" {
                    &bytes[..body]
                } else {
                    &bytes[..]
                };
                if stream.write_all(bytes).await.is_err() || case.closes {
                    let _ = stream.shutdown().await;
                    return;
                }
                let _ = stream.flush().await;
            }
        });
    }
}

/// The method and the row's number of the next request, whose body is read too.
async fn request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    if let Some((_, rest)) = head.split_once("\r\ncontent-length: ") {
        let length: usize = rest.split("\r\n").next()?.parse().ok()?;
        stream.read_exact(&mut vec![0; length]).await.ok()?;
    }
    let mut words = head.split(' ');
    let method = words.next()?.to_uppercase();
    let number = words.next()?.rsplit('/').next()?.parse().ok()?;
    Some((method, number))
}

/// All that a caller gets of one response.
async fn call(address: SocketAddr, method: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A reset ends what came as well.
    let _ = read.unwrap_or_else(|_| panic!("{path} has no end: {:?}", String::from_utf8_lossy(&all)));
    all
}

/// What is wrong with what a caller got.
fn fault(case: &Case, want: &Want, kind: &str, got: &[u8]) -> Option<String> {
    let has_body = kind != "head";
    let Some(response) = Response::parse(got, has_body) else {
        return Some(format!("an empty reply ({} bytes)", got.len()));
    };
    let mut faults = String::new();
    let mut expect = |what: &str, is_so: bool| {
        if !is_so {
            let _ = write!(faults, "{what}; ");
        }
    };
    match want {
        Want::Refused => {
            expect("not 502", response.line == "HTTP/1.1 502 Bad Gateway");
            expect("not bondgate's own", response.is_ours() && response.is_whole);
            let told = String::from_utf8_lossy(&response.body).into_owned();
            let is_told = told.contains("may have executed the request") || told.contains("it may be lost");
            expect("unclear", !has_body || is_told);
        }
        Want::Cut if kind == "pull" => {
            expect(
                "not 502",
                response.line == "HTTP/1.1 502 Bad Gateway" && response.is_ours(),
            );
            expect("not whole", response.is_whole);
        }
        Want::Cut if kind == "head" => expect("not passed", response.is_whole && !response.is_ours()),
        Want::Cut => expect("not cut", !response.is_ours() && !response.is_whole),
        Want::Whole { line, length, body } => {
            expect(
                &format!("{:?} and not {line:?}", response.line),
                response.line == *line,
            );
            expect("not whole", response.is_whole);
            expect("bondgate's own", !response.is_ours());
            let body = match body {
                Body::Row if has_body => BODY.as_bytes(),
                _ => b"",
            };
            expect("another body", response.body == body);
            let (told, codings) = match length {
                Length::OfBody => (Some(BODY.len().to_string()), 0),
                Length::Zero => (Some("0".to_owned()), 0),
                // A pulled message is whole before it is passed on, so that its length is known.
                Length::Chunks if kind == "pull" => (Some(body.len().to_string()), 0),
                Length::Chunks => (None, usize::from(has_body)),
                Length::Nothing => (None, 0),
            };
            let lengths = response.values("content-length");
            expect(
                &format!("lengths {lengths:?} and not {told:?}"),
                lengths == told.iter().collect::<Vec<_>>(),
            );
            expect("coding", response.values("transfer-encoding").len() == codings);
            for line in case.has() {
                let is_there = response.lines.contains(&line);
                let anyhow = response
                    .lines
                    .iter()
                    .any(|found| found.eq_ignore_ascii_case(&line));
                let name = line.chars().take(60).collect::<String>();
                let what = if anyhow { "spelled otherwise" } else { "missing" };
                expect(&format!("{what}: {name:?}"), is_there);
            }
            for name in &case.lacks {
                expect(&format!("there is {name}"), response.values(name).is_empty());
            }
        }
    }
    (!faults.is_empty()).then_some(faults)
}

/// The row's class for one kind of request.
fn wanted<'a>(case: &'a Case, kind: &str) -> &'a Want {
    match &case.head {
        Some(head) if kind == "head" => head,
        _ => &case.want,
    }
}

fn is_message(want: &Want) -> bool {
    let Want::Whole { line, body, .. } = want else {
        return false;
    };
    line.starts_with("HTTP/1.1 2") && *body == Body::Row
}

fn is_lost(want: &Want) -> bool {
    matches!(want, Want::Refused | Want::Cut)
}

fn report(faults: &[(usize, String)], cases: &[Case], kind: &str) {
    let mut text = String::new();
    for (number, fault) in faults {
        let row: String = cases[*number].text.chars().take(100).collect();
        let _ = writeln!(text, "{kind} {number} {row:?}: {fault}");
    }
    let empty = faults
        .iter()
        .filter(|(_, fault)| fault.starts_with("an empty"))
        .count();
    assert!(
        faults.is_empty(),
        "{} of {} are wrong, {empty} of them empty replies:\n{text}",
        faults.len(),
        cases.len()
    );
}

/// A daemon before an upstream that responds with the rows.
async fn before(cases: &Arc<Vec<Case>>) -> Daemon {
    let upstream = RawUpstream::bind().await;
    let (url, ca_pem) = (upstream.url(), upstream.ca_pem.clone());
    tokio::spawn(respond(upstream, cases.clone()));
    let cisco = simulator(Options::default()).await;
    let rules = "keep_alive = \"0s\"\ntimeout = { idle = \"20s\" }\nrules = [ { methods = [\"GET\", \"HEAD\"], path = \"/get/*\" }, { methods = [\"GET\"], \
                 path = \"/pull/*\", consuming = true } ]";
    let setup = Setup::apart(&cisco, &url, &ca_pem, rules);
    let directory = setup.directory.path().join("spool");
    setup
        .and(&format!("[spool]\ndirectory = {directory:?}\n"))
        .environment("BONDGATE_LOG", "info,bondgate=debug")
        .start()
        .await
}

async fn sweep(daemon: &Daemon, cases: &Arc<Vec<Case>>, kind: &'static str) {
    let address = daemon.address();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut callers = JoinSet::new();
    for (number, case) in cases.iter().enumerate() {
        let (case, turns) = (case.clone(), turns.clone());
        callers.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let (method, folder) = match kind {
                "head" => ("HEAD", "get"),
                kind => ("GET", kind),
            };
            let got = call(address, method, &format!("/{folder}/{number}")).await;
            (number, fault(&case, wanted(&case, kind), kind, &got))
        });
    }
    let mut faults = Vec::new();
    while let Some(called) = callers.join_next().await {
        let (number, fault) = called.unwrap();
        faults.extend(fault.map(|fault| (number, fault)));
    }
    faults.sort();
    report(&faults, cases, kind);
}

#[tokio::test]
async fn an_odd_response_to_get_passes_as_it_is_or_is_502_and_never_an_empty_reply() {
    let cases = Arc::new(cases::all());
    assert!(cases.len() >= 200, "{}", cases.len());
    let daemon = before(&cases).await;
    sweep(&daemon, &cases, "get").await;
}

#[tokio::test]
async fn an_odd_response_to_head_passes_without_a_body_and_with_one_valid_length() {
    let cases = Arc::new(cases::all());
    let daemon = before(&cases).await;
    sweep(&daemon, &cases, "head").await;
}

#[tokio::test]
async fn an_odd_response_to_a_pull_is_a_delivered_message_or_one_that_is_reported_as_lost() {
    let cases = Arc::new(cases::all());
    let mut daemon = before(&cases).await;
    sweep(&daemon, &cases, "pull").await;
    let count = |is: fn(&Want) -> bool| cases.iter().filter(|case| is(&case.want)).count();
    daemon
        .logged_times("pulled message delivered", count(is_message))
        .await;
    daemon.logged_times("a message may be lost", count(is_lost)).await;
    let status = daemon.status().await;
    assert_eq!(status["spool"]["messages"], 0);
    assert_eq!(status["spool"]["perhaps_lost"], count(is_lost));
    println!(
        "{} messages, {} reported as lost",
        count(is_message),
        count(is_lost)
    );
}

#[tokio::test]
async fn an_odd_token_response_is_a_token_or_an_error_that_says_what_was_wrong_with_it() {
    let cases = Arc::new(cases::all());
    let upstream = RawUpstream::bind().await;
    let url = upstream.url();
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, &upstream.ca_pem).unwrap();
    let tls = bondgate::tls::client(Some(&ca_file)).unwrap();
    tokio::spawn(respond(upstream, cases.clone()));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut fetches = JoinSet::new();
    for (number, case) in cases.iter().enumerate() {
        let text = format!(
            "[upstream.a]\npreset = \"none\"\nurl = \"{url}\"\ntoken_url = \"{url}/token/{number}\"\n\
             client_id = \"demo\"\nclient_secret = \"sweep\"\nrules = \"any\"\n"
        );
        let config = Config::parse(&text, "odd.toml", []).unwrap();
        let endpoint = TokenEndpoint::new(
            config.upstreams[0].clone(),
            bondgate::upstream::Network::new(tls.clone()),
            Clock::default(),
        );
        let want = case.token.unwrap_or_else(|| token_outcome(&case.want));
        let turns = turns.clone();
        fetches.spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let (got, message) = match endpoint.fetch().await {
                Ok(grant) => ("fresh", format!("{:?}", grant.lifetime)),
                Err(error) => (error.kind.name(), error.to_string()),
            };
            let is_told = !message.contains("cannot connect");
            (
                number,
                (got != want || !is_told).then(|| format!("{got} and not {want}: {message}")),
            )
        });
    }
    let mut faults = Vec::new();
    while let Some(fetched) = fetches.join_next().await {
        let (number, fault) = fetched.unwrap();
        faults.extend(fault.map(|fault| (number, fault)));
    }
    faults.sort();
    report(&faults, &cases, "token");
}

#[tokio::test]
async fn a_daemon_takes_a_token_out_of_a_response_with_300_fields_and_tells_what_is_wrong_with_5000() {
    for (case, told) in [
        (cases::debugged(), "token acquired"),
        (cases::too_many(), "over 64 KiB or 1,000 fields"),
    ] {
        let upstream = RawUpstream::bind().await;
        let url = upstream.url();
        let setup = Setup::new().listener("127.0.0.1:0", "");
        let ca_file = setup.file("ca.pem", &upstream.ca_pem);
        tokio::spawn(respond(upstream, Arc::new(vec![case])));
        let mut daemon = setup
            .and(&format!(
                "[upstream.cisco]\npreset = \"none\"\nurl = \"{url}\"\ntoken_url = \"{url}/token/0\"\n\
                 ca_file = {ca_file:?}\nclient_id = \"demo\"\nclient_secret = \"sweep\"\nrules = \"any\"\n"
            ))
            .start_without_token()
            .await;
        daemon.logged(told).await;
        assert!(!daemon.log().join("\n").contains("cannot connect"));
    }
}

/// The state of a token, or the kind of the error, behind such a response.
fn token_outcome(want: &Want) -> &'static str {
    let Want::Whole { line, body, .. } = want else {
        return if *want == Want::Cut {
            "network"
        } else {
            "malformed"
        };
    };
    match (&line[9..12], body) {
        (status, Body::Row) if status.starts_with('2') => "fresh",
        ("408" | "425", _) => "unavailable",
        ("429", _) => "rate_limited",
        (status, _) if status.starts_with('5') => "unavailable",
        ("400" | "401" | "403", _) => "refused",
        _ => "malformed",
    }
}
