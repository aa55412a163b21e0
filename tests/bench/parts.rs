//! The pure parts that every request goes through, each by itself: `cargo bench --bench parts`.
//!
//! They are private to the program. Their files are compiled here once more, so that nothing has to be public
//! for a benchmark's sake.

// What is not measured of a file is not used here.
#![allow(dead_code, unused_imports, unreachable_pub)]

use std::hint::black_box;
use std::time::Duration;

use bondgate::config::Config;
use bondgate::telemetry::metrics::Metrics;
use bondgate::token::{Clock, FetchError, Grant, Refresher, TokenReader, TokenSource};
use criterion::{BatchSize, Criterion, Throughput};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

#[path = "../../src/server/connection/framing.rs"]
mod framing;
#[path = "../../src/server/connection/head.rs"]
mod head;
#[path = "../../src/proxy/forward/headers.rs"]
mod headers;
#[path = "../../src/server/connection/host.rs"]
mod host;
#[path = "../../src/proxy/authorization/path.rs"]
mod path;
#[path = "../../src/server/connection/refusal_responses.rs"]
mod refusal_responses;
#[path = "../../src/server/connection/target.rs"]
mod target;

/// What those files know of the rest of the program.
mod config {
    pub(crate) use bondgate::config::*;
}

mod problems {
    pub(crate) use bondgate::problems::*;
}
mod spelling {
    pub(crate) use bondgate::spelling::*;
}

mod server {
    pub(crate) mod problem {
        pub(crate) use bondgate::server::{ProblemResponse, ProxyErrorType};
    }
}

const PUSH: &str = "/sb-partner-oauth-proxy-api/rest/v1/push/call";

/// The fields of a request as ITSM tools send it.
const REQUEST: &str = "Host: localhost:8080\r\nUser-Agent: Apache-HttpClient/4.5.14 (Java/17.0.9)\r\n\
    Accept: application/json, text/plain, */*\r\nAccept-Encoding: gzip, deflate\r\n\
    Accept-Language: en-US,en;q=0.9\r\nAuthorization: Basic aXRzbTpub2JvZHk=\r\nConnection: keep-alive\r\n\
    Content-Type: application/json\r\nContent-Length: 2048\r\nCookie: JSESSIONID=5C7E0C3A9F\r\n\
    X-Correlation-ID: 0b6ad1ba-6f1c-4e44-9a5f-6f9d3c1d2e10\r\nX-Forwarded-For: 10.20.1.7\r\n\r\n";

/// The fields of an answer as Cisco's gateway sends it.
const ANSWER: &str = "Date: Wed, 25 Nov 2026 14:03:20 GMT\r\nContent-Type: application/json;charset=UTF-8\r\n\
    Content-Length: 1024\r\nConnection: keep-alive\r\nServer: Apache\r\nCache-Control: no-cache, no-store\r\n\
    Set-Cookie: session=5C7E0C3A9F; Secure; HttpOnly\r\nStrict-Transport-Security: max-age=31536000\r\n\
    X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nAccess-Control-Allow-Origin: *\r\n\
    X-Transaction-ID: 9c1ec94e-1f0a-4d0e-8d7c-0d4f3a2b1c00\r\n\r\n";

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    judge_head(&mut criterion);
    judge_path(&mut criterion);
    pass_fields(&mut criterion);
    read_token(&mut criterion);
    criterion.final_summary();
}

fn judge_head(criterion: &mut Criterion) {
    let limits = config().limits;
    let raw = format!("POST {PUSH} HTTP/1.1\r\n{REQUEST}");
    let mut group = criterion.benchmark_group("head");
    group.throughput(Throughput::Bytes(raw.len() as u64));
    assert!(matches!(head::parse(raw.as_bytes(), 0, &limits), Ok(Some(_))));
    group.bench_function("whole", |bencher| {
        bencher.iter(|| head::parse(black_box(raw.as_bytes()), 0, &limits));
    });
    let part = &raw.as_bytes()[..raw.len() - 1];
    group.bench_function("its last byte missing", |bencher| {
        bencher.iter(|| head::parse(black_box(part), 0, &limits));
    });
    group.finish();
}

fn judge_path(criterion: &mut Criterion) {
    let rules = config().upstreams.remove(0).rules;
    let is_let_through = |path: &str| {
        let plain = path::PlainPath::parse(path).expect("the path means one thing");
        plain.match_rule(&Method::POST, &rules).is_ok()
    };
    assert!(is_let_through(PUSH) && !is_let_through("/a%20b/caf%C3%A9"));
    let mut group = criterion.benchmark_group("path");
    group.bench_function("plain, by the rules", |bencher| {
        bencher.iter(|| is_let_through(black_box(PUSH)));
    });
    group.bench_function("percent-encoded, by the rules", |bencher| {
        bencher.iter(|| is_let_through(black_box("/a%20b/caf%C3%A9")));
    });
    group.finish();
}

fn pass_fields(criterion: &mut Criterion) {
    let (request, answer) = (fields(REQUEST), fields(ANSWER));
    let host = HeaderValue::from_static("stage.sbnprd.xylem.cisco.com");
    let authorization = authorization();
    let mut group = criterion.benchmark_group("fields");
    group.bench_function("outbound", |bencher| {
        let one = || request.clone();
        bencher.iter_batched(one, |map| headers::outbound(map, &host), BatchSize::SmallInput);
    });
    group.bench_function("inbound", |bencher| {
        bencher.iter_batched(|| answer.clone(), headers::inbound, BatchSize::SmallInput);
    });
    group.bench_function("conceal", |bencher| {
        let mut map = answer.clone();
        bencher.iter(|| headers::strip_token(black_box(&mut map), &authorization));
    });
    group.finish();
}

fn read_token(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let tokens = runtime.block_on(tokens());
    criterion.bench_function("token/current", |bencher| {
        bencher.iter(|| black_box(&tokens).current().expect("it lives for an hour"));
    });
}

fn config() -> Config {
    let text =
        "[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"\n";
    Config::parse(text, "bench.toml", []).expect("this is a configuration")
}

fn fields(raw: &str) -> HeaderMap {
    let field = |line: &str| {
        let (name, value) = line.split_once(": ")?;
        Some((
            name.parse::<HeaderName>().ok()?,
            value.parse::<HeaderValue>().ok()?,
        ))
    };
    raw.split("\r\n").filter_map(field).collect()
}

/// As long as Cisco's are.
fn authorization() -> HeaderValue {
    format!("Bearer {}", "x".repeat(1100))
        .parse()
        .expect("it is plain")
}

/// The place of a token, with one in it.
async fn tokens() -> TokenReader {
    let metrics = Metrics::new().upstream("api");
    let (reader, refresher) = Refresher::new("api", Source, Clock::default(), metrics, None);
    tokio::select! {
        () = refresher.run() => {}
        token = reader.wait(Duration::from_secs(10)) => { token.expect("it comes at once"); }
    }
    reader
}

struct Source;

impl TokenSource for Source {
    async fn check(&self) -> Result<bool, FetchError> {
        Ok(false)
    }

    async fn fetch(&self) -> Result<Grant, FetchError> {
        Ok(Grant {
            authorization: authorization(),
            lifetime: Duration::from_secs(3599),
            server_time: None,
        })
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}
