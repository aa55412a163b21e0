//! `bondgate service`: bondgate as a service of Windows.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::run::run_with;
use super::{Exit, output, print_error, variables};
use crate::config::{Config, ConfigError, LogRotation};
use crate::daemon::{validate, with_all_faults};
use crate::platform::system_log::{Level, SystemLog};
use crate::platform::{locations, service};

/// Run bondgate as a service of Windows
#[derive(Args)]
#[command(
    hide = !service::IS_SUPPORTED,
    after_help = "Configuration, secrets, spool and log are in %ProgramData%\\bondgate. All but `status` and `self-test` need a \
                  terminal that was opened with \"Run as administrator\"."
)]
pub(super) struct ServiceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install the service: it starts with the machine, under an account of its own, and again after a failure
    Install {
        /// The configuration file [default: %ProgramData%\bondgate\bondgate.toml]
        #[arg(long, short, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Stop the service and remove it; its files stay
    Remove,
    /// Start the service, and wait until callers are served
    Start,
    /// Stop the service, and wait until running requests are finished
    Stop,
    /// Have the service reload its configuration
    Reload,
    /// Show whether the service runs
    Status,
    /// Check that this machine does what bondgate relies on, such as file permissions and the Event Log
    SelfTest,
    /// What the service control manager starts
    #[command(hide = true)]
    Run {
        #[arg(long)]
        config: PathBuf,
    },
}

pub(super) fn run(args: ServiceArgs) -> anyhow::Result<Exit> {
    match args.command {
        Command::Install { config } => return install(config),
        Command::Remove => {
            service::remove()?;
            let folder = locations::configuration();
            output::line(format_args!(
                "The service is removed. Its files stay in {}.",
                folder.display()
            ))?;
        }
        Command::Start => {
            if let Err(error) = service::start() {
                let log = error
                    .is_logged()
                    .then(|| format!("; {} says why", log_file().display()));
                return Err(error).context(format!("the service does not start{}", log.unwrap_or_default()));
            }
            output::line("The service runs. `bondgate status` shows what it does.")?;
        }
        Command::Stop => {
            service::stop()?;
            output::line("The service is stopped.")?;
        }
        Command::Reload => {
            service::reload()?;
            output::line("The service reloads its configuration; its log has the result.")?;
        }
        Command::Status => {
            let (state, process) = service::status()?;
            let process = process.map_or_else(String::new, |process| format!(" (process {process})"));
            output::line(format_args!("{state}{process}"))?;
            return Ok(if state == "running" {
                Exit::Done
            } else {
                Exit::Failed
            });
        }
        Command::SelfTest => {
            let checks = service::self_test();
            for check in &checks {
                output::line(check)?;
            }
            return Ok(if checks.iter().any(service::Check::is_failed) {
                Exit::Failed
            } else {
                Exit::Done
            });
        }
        Command::Run { config } => service::run(&log_file(), || serve(config))?,
    }
    Ok(Exit::Done)
}

/// Installs the service if its configuration is valid.
fn install(config: Option<PathBuf>) -> anyhow::Result<Exit> {
    // The validation needs the folder of the log.
    service::prepare()?;
    let file = config.unwrap_or_else(|| locations::configuration().join("bondgate.toml"));
    let file = std::path::absolute(file)?;
    if !file.exists() {
        output::error(format_args!(
            "there is no configuration {}; write one with `bondgate init`, or name another with --config",
            file.display()
        ));
        return Ok(Exit::Configuration);
    }
    let config = load_for_service(Some(&file)).map_err(with_all_faults)?;
    validate(&config, true).into_warnings()?;
    let files = config.files().into_iter().map(|named| named.path);
    let files: Vec<_> = files.chain([file.clone()]).collect();
    for failure in service::install(&file, &files)? {
        output::line(format_args!("warning: cannot set {failure}"))?;
    }
    output::line(
        "The service is installed, and starts with the machine.\n\nStart it now:\n  bondgate service start",
    )?;
    Ok(Exit::Done)
}

/// Runs the daemon as the service, and returns its exit code. What keeps it from starting is in the log, and the Event Log
/// leads there.
fn serve(config: PathBuf) -> u32 {
    let exit = run_with(Some(config), load_for_service).unwrap_or_else(|error| print_error(&error));
    if exit != Exit::Done
        && let Some(log) = SystemLog::of_this_service()
    {
        let code = exit as u8;
        let text = format!(
            "bondgate ended with exit code {code}; {} says why",
            log_file().display()
        );
        log.report(Level::Error, &text);
    }
    exit as u32
}

/// Reads the configuration of the service, which has a place for its spool and its log, and rotates that log, unless the
/// configuration says otherwise.
fn load_for_service(file: Option<&Path>) -> Result<Config, ConfigError> {
    let spool = ("STATE_DIRECTORY".to_owned(), locations::spool().into_os_string());
    let mut config = Config::load(file, std::iter::once(spool).chain(variables()))?;
    if config.log.file.is_none() {
        config.log.file = Some(log_file());
        config.log.rotate.get_or_insert(LogRotation::OF_SERVICE);
    }
    Ok(config)
}

fn log_file() -> PathBuf {
    locations::log().join("bondgate.log")
}
