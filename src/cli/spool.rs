//! `bondgate spool`: lists, shows, requeues, moves and discards pulled messages.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};

use super::{Exit, load, output};
use crate::config::{Config, find_file};
use crate::platform::locations;
use crate::platform::shell::quoted;
use crate::spool::{InspectError, Listed, ListedUnknown, MessageState, Move, RequestedQueues};

/// List, show, requeue, move or discard pulled messages
#[derive(Args)]
pub(super) struct SpoolArgs {
    #[command(subcommand)]
    action: Action,
    /// The spool's directory [default: spool.directory of the configuration]
    #[arg(long, global = true)]
    directory: Option<PathBuf>,
    /// The configuration file [default: $BONDGATE_CONFIG, ./bondgate.toml, /etc/bondgate/bondgate.toml, else the
    /// environment alone]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// List every message in the spool, the oldest first
    List,
    /// Print a message's body; it may hold credentials
    Show(Name),
    /// Put dead letters and delivered messages back into their queue
    ///
    /// They are delivered again, before newer messages, with the field Bondgate-Redelivered. A running bondgate needs no
    /// restart. Delivered messages are retained for spool.keep.
    Requeue(Which),
    /// Move all messages of a queue to another queue, as after a change of the client id or the host
    ///
    /// The next request for the other queue gets them, before newer messages, with the field Bondgate-Redelivered. A running
    /// bondgate needs no restart. Messages that are being pulled or delivered are left.
    Move(Queues),
    /// Remove a message for good
    Discard(Name),
}

#[derive(Args)]
struct Queues {
    /// The queue whose messages are moved: the 16 digits before the slash in the names that `list` shows, or the whole line
    /// below a name without its method
    from: String,
    /// The queue that gets them, in the same form; one that holds no message yet as 'HOST/PATH for client ID'
    to: String,
}

#[derive(Args)]
struct Name {
    /// The message's name, as `list` shows it
    name: String,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The messages' names, as `list` shows them
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Every dead letter and every delivered message
    #[arg(long)]
    all: bool,
    /// Every dead letter
    #[arg(long)]
    dead_letters: bool,
    /// Messages that were delivered, or became dead letters, since then: 2026-11-28T14:00:00Z (UTC), or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<SystemTime>,
}

/// Parses a date and time in UTC, or how long ago a time is.
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
    // With a directory alone, the configuration may be one that this user cannot read.
    let config = match (&args.directory, &args.config) {
        (Some(_), None) => None,
        _ => Some(load(find_file(args.config.clone()).as_deref())?),
    };
    let configured = || config.as_ref().and_then(|config| config.spool.directory.clone());
    let directory = args.directory.clone().or_else(configured);
    let Some(directory) = directory else {
        output::error(format_args!(
            "spool.directory is not set, and a daemon without it holds messages in memory only; if the service sets it, \
             add --directory {}",
            locations::spool().display()
        ));
        return Ok(Exit::Configuration);
    };
    std::fs::read_dir(&directory).with_context(|| {
        format!(
            "the spool's directory {} cannot be read; check the path (the daemon creates it at its first start), and run \
             this as root or as bondgate's user",
            directory.display()
        )
    })?;
    let done = match &args.action {
        Action::List => list(&directory, &args.options()),
        Action::Show(Name { name }) => show(&directory, name),
        Action::Discard(Name { name }) => discard(&directory, name),
        Action::Requeue(which) => requeue(&directory, which),
        Action::Move(queues) => move_messages(&directory, queues, config.as_ref()),
    };
    done.map_err(|error| match error {
        InspectError::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => anyhow!(
            "this user may not read or change files in the spool's directory {}; run this as root or as bondgate's user",
            directory.display()
        ),
        error => error.into(),
    })
}

impl SpoolArgs {
    /// The options that name the directory, as a shell reads them, for the commands in messages.
    fn options(&self) -> String {
        let options = [("directory", &self.directory), ("config", &self.config)];
        let given = options
            .iter()
            .filter_map(|(option, path)| Some(format!(" --{option} {}", quoted(path.as_ref()?))));
        given.collect()
    }
}

fn list(directory: &Path, options: &str) -> Result<Exit, InspectError> {
    let listed = Listed::list(directory)?;
    let unknown = ListedUnknown::list(directory)?;
    if listed.is_empty() && unknown.is_empty() {
        output::line("no messages are held")?;
    }
    for message in &listed {
        let queue = match &message.intent {
            Ok(intent) => match &message.moved_from {
                None => format!("{} {}", intent.method, intent.queue),
                Some(before) => format!("{} {} (moved from {before})", intent.method, intent.queue),
            },
            Err(reason) => format!("unknown queue: {reason}"),
        };
        let pulled = message.file.id;
        let age = pulled.time().elapsed().unwrap_or_default().as_secs();
        output::line(format_args!(
            "{}  pulled {} ({} ago), {} bytes, {}\n    {queue}",
            message.name,
            pulled,
            humantime::format_duration(Duration::from_secs(age)),
            message.bytes,
            state(message),
        ))?;
    }
    for file in &unknown {
        output::line(format_args!(
            "{}  {} bytes, not delivered: {}; run the bondgate that wrote it, or a newer one",
            file.name, file.bytes, file.unknown
        ))?;
    }
    if listed.iter().any(Listed::is_requeueable) {
        output::line(format_args!(
            "to deliver a dead letter or a delivered message again, run `bondgate spool requeue NAME{options}`"
        ))?;
    }
    Ok(Exit::Done)
}

fn state(message: &Listed) -> String {
    let failures = message.file.failures;
    let text = match message.file.state {
        MessageState::Pulling if message.is_locked => "being pulled",
        MessageState::Delivered if message.is_later => {
            "delivered by a later bondgate, which alone can requeue it"
        }
        _ if message.is_later => "not delivered: a later bondgate wrote it; run that version or a newer one",
        MessageState::Pulling => {
            "its pull was interrupted; the next pull or start recovers it or reports it as lost"
        }
        MessageState::Ready if message.is_locked => "being delivered",
        MessageState::Ready if failures == 0 => "waits for the next pull",
        MessageState::Ready => return format!("waits for the next pull; failed deliveries: {failures}"),
        MessageState::Delivered => {
            let delivered = humantime::format_rfc3339_seconds(message.changed);
            return format!("delivered at {delivered}");
        }
        MessageState::DeadLetter => return format!("dead letter after {failures} failed deliveries"),
        MessageState::Lost => {
            "may be lost: its pull was sent, and no whole response came; look for it at Cisco, then discard it"
        }
        MessageState::Damaged => "damaged: show it, then discard it",
    };
    text.to_owned()
}

fn requeue(directory: &Path, which: &Which) -> Result<Exit, InspectError> {
    let is_wanted = |message: &Listed| {
        which.all
            || which.dead_letters && message.file.state == MessageState::DeadLetter
            || which.since.is_some_and(|since| message.changed >= since)
    };
    for name in &which.names {
        if let Some(unknown) = ListedUnknown::find(directory, name)? {
            unknown.requeue()?;
        }
    }
    let named = which.names.iter().map(|name| Listed::find(directory, name));
    let mut wanted = named.collect::<Result<Vec<_>, _>>()?;
    if wanted.is_empty() {
        wanted = Listed::list(directory)?;
        wanted.retain(|message| message.is_requeueable() && is_wanted(message));
    }
    if wanted.is_empty() {
        output::line(
            "nothing to requeue: no dead letter or delivered message matches; see `bondgate spool list`",
        )?;
    }
    let mut requeued = 0;
    for message in &wanted {
        match message.requeue() {
            Ok(()) => {
                output::line(format_args!("requeued {}", message.name))?;
                requeued += 1;
            }
            Err(error @ InspectError::Io(_)) => return Err(error),
            Err(error) => output::error(error),
        }
    }
    match requeued {
        0 => {}
        1 => output::line("1 message will be delivered again, before newer ones")?,
        _ => output::line(format_args!(
            "{requeued} messages will be delivered again, before newer ones"
        ))?,
    }
    let is_done = requeued == wanted.len();
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}

fn move_messages(directory: &Path, queues: &Queues, config: Option<&Config>) -> Result<Exit, InspectError> {
    let requested = config.map(|config| RequestedQueues::of(config.served_upstreams()));
    let moving = Move::find(directory, &queues.from, &queues.to, requested.as_ref())?;
    let outcome = moving.run()?;
    for (name, reason) in &outcome.left {
        output::error(format_args!("{name} {reason}; it is not moved"));
    }
    let (from, to) = moving.queues();
    output::line(format_args!(
        "moved {} undelivered and {} delivered messages from {from} to {to}",
        outcome.undelivered, outcome.delivered
    ))?;
    if outcome.undelivered > 0 {
        output::line("the next request for that queue gets the oldest one")?;
    }
    Ok(if outcome.left.is_empty() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn show(directory: &Path, name: &str) -> Result<Exit, InspectError> {
    let out = &mut io::stdout().lock();
    let shown = match ListedUnknown::find(directory, name)? {
        Some(unknown) => unknown.show(out),
        None => Listed::find(directory, name)?.show(out),
    };
    let shown = match shown {
        // `head` and the like close the pipe early.
        Err(InspectError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
        shown => shown,
    };
    if !shown? {
        output::error(format_args!(
            "{name} is not a whole message; this is its file as it is"
        ));
    }
    Ok(Exit::Done)
}

fn discard(directory: &Path, name: &str) -> Result<Exit, InspectError> {
    let name = if let Some(unknown) = ListedUnknown::find(directory, name)? {
        unknown.discard()?;
        unknown.name
    } else {
        let message = Listed::find(directory, name)?;
        message.discard()?;
        message.name
    };
    output::line(format_args!("discarded {name}"))?;
    Ok(Exit::Done)
}
