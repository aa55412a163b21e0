//! `bondgate spool`: the pulled messages that are held, for a person to look at and to put back into their queue.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::{ConfigArgs, Exit, load};
use crate::spool::{InspectError, Inspection, Listed, State};

/// List, show, requeue or discard the pulled messages that are held
#[derive(Args)]
pub(super) struct SpoolArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Name every message that is held, the oldest first
    List(PlaceArgs),
    /// Print a message's body; it may hold credentials
    Show(MessageArgs),
    /// Put dead letters and delivered messages back into their queue
    ///
    /// They are delivered again, before newer messages, with the field Bondgate-Redelivered. A running bondgate needs no
    /// restart. Delivered messages are there for as long as spool.keep says.
    Requeue(RequeueArgs),
    /// Remove a message for good: no caller will get it
    Discard(MessageArgs),
}

#[derive(Args)]
struct PlaceArgs {
    /// The spool's directory [default: what the configuration says]
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Args)]
struct MessageArgs {
    /// The message's name, as `list` has it
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args)]
struct RequeueArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The messages' names, as `list` has them
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Every dead letter and every delivered message
    #[arg(long)]
    all: bool,
    /// Every dead letter
    #[arg(long)]
    dead_letters: bool,
    /// What was delivered, or became a dead letter, since then: 2026-11-28T14:00:00Z (UTC), or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
}

/// A moment as people write it: a date and time in UTC, or how long ago it is.
fn since(text: &str) -> Result<SystemTime, String> {
    let ago = |ago| SystemTime::now().checked_sub(ago);
    humantime::parse_rfc3339_weak(text)
        .ok()
        .or_else(|| humantime::parse_duration(text).ok().and_then(ago))
        .ok_or_else(|| {
            "write date, time and seconds in UTC, like 2026-11-28T14:00:00Z, or how long ago, like 2h or 30m"
                .to_owned()
        })
}

pub(super) fn run(args: &SpoolArgs) -> anyhow::Result<Exit> {
    let place = match &args.action {
        Action::List(place) => place,
        Action::Show(message) | Action::Discard(message) => &message.place,
        Action::Requeue(requeue) => &requeue.place,
    };
    let directory = match &place.directory {
        Some(directory) => directory.clone(),
        None => match load(place.config.clone().file().as_deref()) {
            Err(exit) => return Ok(exit),
            Ok(config) => {
                let Some(directory) = config.spool.directory else {
                    eprintln!(
                        "bondgate: no spool.directory is set, and a daemon without one holds messages in its memory alone; \
                         where systemd sets it, name it: --directory /var/lib/bondgate"
                    );
                    return Ok(Exit::Configuration);
                };
                directory
            }
        },
    };
    if let Err(error) = std::fs::read_dir(&directory) {
        let mend = match error.kind() {
            io::ErrorKind::NotFound => "; check the path (the daemon creates it at its first start)",
            io::ErrorKind::PermissionDenied => "; look as root, or as the user that bondgate runs as",
            _ => "",
        };
        eprintln!(
            "bondgate: the spool's directory {} cannot be read: {error}{mend}",
            directory.display()
        );
        return Ok(Exit::Failed);
    }
    let inspection = Inspection::new(&directory);
    let done = match &args.action {
        Action::List(_) => list(&inspection),
        Action::Show(message) => show(&inspection, &message.name),
        Action::Discard(message) => discard(&inspection, &message.name),
        Action::Requeue(args) => match requeue(&inspection, &args.which) {
            Ok(exit) => return Ok(exit),
            Err(error) => Err(error),
        },
    };
    match done {
        // Whoever reads along may have read enough.
        Err(InspectError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        done => Ok(done.map(|()| Exit::Done)?),
    }
}

fn list(inspection: &Inspection) -> Result<(), InspectError> {
    let listed = inspection.list()?;
    let mut out = io::stdout().lock();
    if listed.is_empty() {
        writeln!(out, "no messages are held")?;
    }
    let is_any_requeueable = listed.iter().any(Listed::is_requeueable);
    for listed in listed {
        let queue = match &listed.intent {
            Ok(intent) => format!("{} {}", intent.method, intent.key),
            Err(why) => format!("its first line cannot be read: {why}"),
        };
        let age = SystemTime::now()
            .duration_since(listed.pulled.time())
            .unwrap_or_default();
        writeln!(
            out,
            "{}  pulled {} ({} ago), {} bytes, {}\n    {queue}",
            listed.id,
            listed.pulled,
            humantime::format_duration(Duration::from_secs(age.as_secs())),
            listed.bytes,
            state(&listed),
        )?;
    }
    if is_any_requeueable {
        writeln!(
            out,
            "to deliver a dead letter or a delivered message again, run `bondgate spool requeue NAME`"
        )?;
    }
    Ok(())
}

fn state(listed: &Listed) -> String {
    let attempts = listed.attempts;
    match listed.state {
        State::Pulling if listed.is_busy => "being pulled".to_owned(),
        State::Pulling => "its pull was cut off; the next pull or start recovers or reports it".to_owned(),
        _ if listed.is_later => {
            "not delivered, since a later bondgate wrote it: run that one, or a newer one".to_owned()
        }
        State::Held if listed.is_busy => "with a caller".to_owned(),
        State::Held if attempts == 0 => "waits for the next pull".to_owned(),
        State::Held => format!("waits for the next pull; failed deliveries: {attempts}"),
        State::Delivered => format!("delivered at {}", time(listed.changed)),
        State::DeadLetter => format!("dead letter after {attempts} failed deliveries"),
        State::Lost => {
            "perhaps lost: its pull was sent, and no whole response came; look for it at Cisco, then \
             discard it"
                .to_owned()
        }
        State::Corrupt => "damaged: show it, then discard it".to_owned(),
    }
}

fn time(at: SystemTime) -> impl std::fmt::Display {
    humantime::format_rfc3339_seconds(at)
}

fn requeue(inspection: &Inspection, which: &Which) -> Result<Exit, InspectError> {
    let wanted: Vec<Listed> = if which.names.is_empty() {
        let is_wanted = |listed: &Listed| {
            listed.is_requeueable()
                && (which.all
                    || which.dead_letters && listed.state == State::DeadLetter
                    || which.since.is_some_and(|since| listed.changed >= since))
        };
        inspection.list()?.into_iter().filter(is_wanted).collect()
    } else {
        let found = which.names.iter().map(|name| inspection.find(name));
        found.collect::<Result<_, _>>()?
    };
    let mut exit = Exit::Done;
    let mut count = 0;
    for listed in &wanted {
        match inspection.requeue(listed) {
            Ok(()) => {
                println!("requeued {}", listed.id);
                count += 1;
            }
            Err(error @ InspectError::Io(_)) => return Err(error),
            Err(error) => {
                eprintln!("bondgate: {error}");
                exit = Exit::Failed;
            }
        }
    }
    if count > 0 {
        println!("{count} messages will be delivered again, before newer ones");
    } else if wanted.is_empty() {
        println!(
            "nothing to requeue: no dead letter or delivered message matches; see `bondgate spool list`"
        );
    }
    Ok(exit)
}

fn show(inspection: &Inspection, name: &str) -> Result<(), InspectError> {
    let listed = inspection.find(name)?;
    let is_whole = inspection.show(&listed, &mut io::stdout().lock())?;
    if !is_whole {
        eprintln!(
            "bondgate: {} is not a whole message; this is its file as it is",
            listed.id
        );
    }
    Ok(())
}

fn discard(inspection: &Inspection, name: &str) -> Result<(), InspectError> {
    let listed = inspection.find(name)?;
    inspection.discard(&listed)?;
    println!("discarded {}", listed.id);
    Ok(())
}
