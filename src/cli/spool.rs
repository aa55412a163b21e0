//! `bondgate spool`: what is held of pulled messages, for a person to look at.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::{ConfigArgs, Exit, load};
use crate::spool::{InspectError, Inspection, Listed, State};

/// List, show or discard the pulled messages that are held
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

pub(super) fn run(args: &SpoolArgs) -> anyhow::Result<Exit> {
    let place = match &args.action {
        Action::List(place) => place,
        Action::Show(message) | Action::Discard(message) => &message.place,
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
            io::ErrorKind::NotFound => "; the daemon makes it at its start: is this the right one?",
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
        writeln!(out, "nothing is held")?;
    }
    for listed in listed {
        let queue = match &listed.intent {
            Some(intent) => format!("{} {}", intent.method, intent.key),
            None => "what was asked cannot be read".to_owned(),
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
            told(&listed),
        )?;
    }
    Ok(())
}

fn told(listed: &Listed) -> String {
    let attempts = listed.attempts;
    match listed.state {
        State::Pulling if listed.is_busy => "being pulled".to_owned(),
        State::Pulling => "cut off: the next start of bondgate judges it".to_owned(),
        State::Held if listed.is_busy => "with a caller".to_owned(),
        State::Held if attempts == 0 => "waits for the next pull".to_owned(),
        State::Held => format!("waits for the next pull; failed deliveries: {attempts}"),
        State::Sent => "with a caller, as far as can be told".to_owned(),
        State::Delivered => "delivered, and kept (spool.keep)".to_owned(),
        State::Aside => format!("set aside after {attempts} failed deliveries: show it, then discard it"),
        State::Lost => {
            "perhaps lost: it was asked for and never came whole; look for it at Cisco, then discard it"
                .to_owned()
        }
        State::Corrupt => "damaged: show it, then discard it".to_owned(),
    }
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
