//! `bondgate man`: manual pages, from the definition of the command line.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man;

use super::{Exit, output};
use crate::telemetry::program;

/// Print the manual page, or write one for each command
#[derive(Args)]
#[command(after_help = "For example: bondgate man | man -l -")]
pub(super) struct ManArgs {
    /// Write bondgate.1, bondgate-check.1 and so on to this directory, which must exist
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs, command: Command) -> anyhow::Result<Exit> {
    let command = command.version(program::VERSION).disable_help_subcommand(true);
    if let Some(directory) = &args.directory {
        clap_mangen::generate_to(command, directory)
            .with_context(|| format!("cannot write to {}", directory.display()))?;
    } else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page)?;
        output::line(String::from_utf8_lossy(&page).trim_end())?;
    }
    Ok(Exit::Done)
}
