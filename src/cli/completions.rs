//! `bondgate completions`: what a shell completes, from the definition of the command line.

use clap::{Args, Command};
use clap_complete::Shell;

use super::{Exit, output};

/// Print what a shell needs to complete bondgate's commands and options
#[derive(Args)]
#[command(
    after_help = "For example: bondgate completions bash > /usr/share/bash-completion/completions/bondgate"
)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "bondgate", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(Exit::Done)
}
