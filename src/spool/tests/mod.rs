//! The spool alone, with pulls that bring what a test sets.

mod end;
mod failed_deliveries;
mod files;
mod moves;
mod order;
mod pass_through;
mod problems;
mod pulls;
mod unrequested_queues;
mod upkeep;
mod versions;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use http::response::Parts;
use tokio::runtime::Handle;

use super::*;
use crate::config;
use crate::telemetry::metrics::Metrics;

const PATIENCE: Duration = Duration::from_secs(30);

fn config(directory: Option<&Path>) -> config::Spool {
    config::Spool {
        directory: directory.map(Path::to_owned),
        persistent: true,
        messages: 3,
        bytes: 1 << 20,
        memory: 1 << 20,
        keep: Duration::ZERO,
        keep_bytes: 1 << 20,
        settle: Duration::from_secs(4),
        pauses: vec![Duration::ZERO],
    }
}

fn open(config: &config::Spool) -> Spool {
    let spool = Spool::open(config, Metrics::new()).unwrap();
    spool.start(Handle::current());
    spool
}

fn queue(route: &str) -> QueueId {
    QueueId {
        authority: "stage.example".to_owned(),
        client_id: "id".to_owned(),
        route: route.to_owned(),
    }
}

fn head() -> Parts {
    http::Response::new(()).into_parts().0
}

/// A delivery, or what a pull brought in place of a message.
type Response = Result<Delivery, &'static str>;

/// A request whose pull brings this message.
async fn take(spool: &Spool, route: &str, message: &'static str) -> Result<Response, SpoolError> {
    take_as(spool, "caller", route, message).await
}

async fn take_as(
    spool: &Spool,
    caller: &str,
    route: &str,
    message: &'static str,
) -> Result<Response, SpoolError> {
    let pull = move |mut writer: PullWriter| async move {
        writer.head(&head());
        writer
            .write(&Bytes::from_static(message.as_bytes()))
            .await
            .unwrap();
        Ok(writer.finish(head()).await.unwrap())
    };
    let taken = take_by(spool, caller, route, pull);
    tokio::time::timeout(PATIENCE, taken).await.unwrap()
}

/// A request that pulls by this function.
async fn take_by<F>(
    spool: &Spool,
    caller: &str,
    route: &str,
    pull: impl FnOnce(PullWriter) -> F + Send + 'static,
) -> Result<Response, SpoolError>
where
    F: Future<Output = Response> + Send,
{
    let respond = |taken| async {
        match taken {
            TakeOutcome::Message(delivery) => Ok(delivery),
            TakeOutcome::Pull(writer) => pull(*writer).await,
        }
    };
    spool
        .take(queue(route), &Method::GET, caller.into(), || true, respond)
        .await
}

fn delivery(taken: Result<Response, SpoolError>) -> Delivery {
    taken.unwrap().unwrap()
}

fn body(delivery: &Delivery) -> Bytes {
    let body = delivery.body().unwrap();
    assert!(body.file.is_none(), "it is small");
    body.rest
}

/// Stores a message that no caller took.
async fn hold(spool: &Spool, route: &str, message: &'static str) {
    drop(delivery(take(spool, route, message).await));
}

fn folder(directory: &Path, route: &str) -> PathBuf {
    directory.join(queue(route).folder())
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "turn" && name != "retained")
        .collect();
    names.sort();
    names
}

fn extensions(folder: &Path) -> Vec<String> {
    let extension = |name: String| name.rsplit('.').next().unwrap().to_owned();
    let mut extensions: Vec<_> = names(folder).into_iter().map(extension).collect();
    extensions.sort();
    extensions
}

fn codes(spool: &Spool) -> Vec<&'static str> {
    spool
        .problems()
        .iter()
        .map(|lasting| lasting.problem.code())
        .collect()
}

/// A delivery that fails. Returns the message.
async fn fail(spool: &Spool, message: &'static str) -> Bytes {
    deliver(spool, message, false).await
}

/// A delivery that succeeds. Returns the message.
async fn succeed(spool: &Spool, message: &'static str) -> Bytes {
    deliver(spool, message, true).await
}

async fn deliver(spool: &Spool, message: &'static str, is_delivered: bool) -> Bytes {
    let delivery = delivery(take(spool, "/pull", message).await);
    delivery.lease.set_on_connection(true);
    let got = body(&delivery);
    delivery.record(is_delivered).await;
    got
}
