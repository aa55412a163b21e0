//! The spool: a message that a pull takes off Cisco's queue is delivered, whatever fails on the way.

mod bounds;
mod crash_loop;
mod crashes;
mod deliveries;
mod end;
mod moves;
mod storm;
mod versions;

use std::path::{Path, PathBuf};

use bondgate::simulator::{Endpoint, Fault, Handle, Kind, On, Seen};
use tokio::net::TcpStream;

use crate::harness::{Daemon, Ended, PULL, Setup, bondgate, finished, seen_when};
use crate::wire::{Caller, Line, Message};

/// A daemon whose spool is in a directory of its test.
pub(crate) fn on_disk(cisco: &Handle) -> Setup {
    let setup = Setup::at(cisco);
    let directory = setup.directory.path().join("spool");
    setup.and(&format!("[spool]\ndirectory = {directory:?}\n"))
}

/// The line of `[spool]` that sets the pauses after failed deliveries. `BONDGATE_TEST_WITHOUT_PAUSES` leaves it out, for a
/// program without that key.
pub(crate) fn pauses(pauses: &[&str]) -> String {
    match std::env::var_os("BONDGATE_TEST_WITHOUT_PAUSES") {
        None => format!("pauses = {pauses:?}\n"),
        Some(_) => String::new(),
    }
}

pub(crate) fn message(number: usize) -> String {
    format!("{{\"Calls\":{{\"CustCallID\":\"INC{number:07}\"}}}}")
}

pub(crate) fn request(method: &str) -> String {
    format!("{method} {PULL} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
}

/// Pulls on a connection of its own, and closes it in order.
pub(crate) async fn pull(daemon: &Daemon) -> Message {
    pull_at(daemon.address()).await
}

async fn pull_at(address: std::net::SocketAddr) -> Message {
    let mut caller = Caller::to(address).await;
    let message = ask(&mut caller).await;
    caller.finish().await;
    message
}

/// Pulls on a connection that stays open.
async fn ask(caller: &mut Line<TcpStream>) -> Message {
    caller.say(request("GET")).await;
    caller.message().await
}

/// Pulls, and disconnects before the response arrives.
async fn abandon(cisco: &Handle, daemon: &mut Daemon, times: usize) {
    cisco.script(Fault::on(On::Pull, Kind::Slow { ms: 200 }));
    let before = pulls(cisco);
    let mut caller = Caller::to(daemon.address()).await;
    caller.say(request("GET")).await;
    seen_when(cisco, |seen| {
        seen.iter().filter(|seen| is_pull(seen)).count() > before
    })
    .await;
    caller.reset();
    daemon
        .logged_times("disconnected before its response", times)
        .await;
}

fn is_redelivered(answer: &Message) -> bool {
    let time = answer.field("bondgate-redelivered");
    time.is_some_and(|time| {
        assert!(httpdate_like(time), "{time}");
        true
    })
}

fn httpdate_like(time: &str) -> bool {
    time.ends_with(" GMT") && time.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len()
}

pub(crate) fn pulls(cisco: &Handle) -> usize {
    let seen = cisco.seen();
    seen.iter().filter(|seen| is_pull(seen)).count()
}

pub(crate) fn is_pull(seen: &Seen) -> bool {
    seen.endpoint == Endpoint::Pull
}

/// The files of messages, by their extension.
pub(crate) fn files(spool: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(spool).into_iter().flatten() {
        let folder = folder.unwrap().path();
        for folder in [folder.join("retained"), folder] {
            for file in std::fs::read_dir(folder).into_iter().flatten() {
                let file = file.unwrap().path();
                if file.extension().is_some_and(|found| found == extension) {
                    found.push(file);
                }
            }
        }
    }
    found.sort();
    found
}

/// Runs `bondgate spool` beside a daemon.
pub(crate) async fn spool_command(daemon: &Daemon, arguments: &[&str]) -> Ended {
    let mut command = bondgate();
    let config = daemon.directory.path().join("bondgate.toml");
    command.arg("spool").args(arguments).arg("--config").arg(config);
    finished(command).await
}

pub(crate) fn spool_of(daemon: &Daemon) -> PathBuf {
    daemon.directory.path().join("spool")
}
