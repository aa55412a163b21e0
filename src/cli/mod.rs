//! The command line: one file a subcommand, exit codes in one place.

mod check;
mod demo;
mod probe;
mod run;
mod signals;
mod simulate;
mod spool;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigError, Fault, find_file};
use crate::process;

const ABOUT: &str = "A local authenticating reverse proxy for Cisco's Smart Bonding API: callers speak plain HTTP to \
it, it keeps a fresh OAuth 2.0 token and relays over HTTPS";

const AFTER: &str = "Start here:
  bondgate demo                       everything on this machine, no credentials needed
  bondgate check --config FILE        is the configuration right?
  bondgate run --config FILE          the daemon (`bondgate` alone does the same)

Configured by the environment alone:
  BONDGATE_PRESET=smart-bonding-stage BONDGATE_CLIENT_ID=… BONDGATE_CLIENT_SECRET_FILE=/path bondgate

Exit codes:
  0  done or drained
  1  runtime failure, a forced stop, or messages lost that only memory held
  2  usage
  3  configuration";

#[derive(Parser)]
#[command(name = "bondgate", version, about = ABOUT, after_help = AFTER, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Run(ConfigArgs),
    Check(check::CheckArgs),
    Demo(demo::DemoArgs),
    Simulate(Box<simulate::SimulateArgs>),
    Probe(probe::ProbeArgs),
    Spool(spool::SpoolArgs),
}

/// Where the configuration is
#[derive(Args, Clone)]
struct ConfigArgs {
    /// The configuration file [default: $BONDGATE_CONFIG, ./bondgate.toml, /etc/bondgate/bondgate.toml, else the
    /// environment alone]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How the program ends.
#[derive(Clone, Copy)]
enum Exit {
    Done = 0,
    Failed = 1,
    Configuration = 3,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    process::harden();
    let cli = Cli::parse();
    let result = match cli.command.unwrap_or(Command::Run(cli.config)) {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Simulate(args) => runtime().and_then(|runtime| {
            runtime.block_on(simulate::run(*args))?;
            Ok(Exit::Done)
        }),
        Command::Probe(args) => probe::run(args),
        Command::Spool(args) => spool::run(&args),
    };
    let exit = result.unwrap_or_else(|error| {
        eprintln!("bondgate: {error:#}");
        Exit::Failed
    });
    ExitCode::from(exit as u8)
}

impl ConfigArgs {
    /// The configuration file, where there is one.
    fn file(self) -> Option<PathBuf> {
        find_file(self.config)
    }
}

/// Reads the configuration, or tells every fault of it.
fn load(file: Option<&Path>) -> Result<Config, Exit> {
    read(file).map_err(|error| {
        tell_faults("the configuration", &error.faults);
        Exit::Configuration
    })
}

fn tell_faults(place: &str, faults: &[Fault]) {
    if let [fault] = faults {
        return eprintln!("bondgate: {fault}");
    }
    eprintln!("bondgate: {} faults in {place}:", faults.len());
    for fault in faults {
        eprintln!("{fault}");
    }
}

fn read(file: Option<&Path>) -> Result<Config, ConfigError> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // What is no UTF-8 is none of ours, but for a name that is.
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    Config::load(file, variables)
}

/// One thread that does everything but the workers' own work.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
