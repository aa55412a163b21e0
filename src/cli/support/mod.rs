//! `bondgate support`: one text file for a support case, beside a running daemon or without one.
//!
//! Every part is made of what another command or the admin listener shows, where no secret is shown. In addition the
//! whole text is searched for each secret that this user can read, and a line that holds one is left out. What cannot be
//! collected is named, with the reason: the file is needed most where something is broken.

mod bundle;
mod command;
mod configuration;
mod daemon;
mod facts;
mod log_file;
mod output_file;
mod secrets;
mod section_text;
mod time_limit;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use self::bundle::Bundle;
use self::configuration::Configuration;
use self::daemon::Daemon;
use self::output_file::OutputFile;
use self::secrets::Secrets;
use super::admin_client::AdminArgs;
use super::{Exit, output};

/// Write one text file for a support case: version, machine, configuration, check, status, problems, spool, log and metrics
///
/// It contains no secrets. It contains names of hosts, files and paths, client ids, and names and addresses of callers: read
/// it before you send it. What cannot be collected is named in it, as when the daemon does not run.
#[derive(Args)]
#[command(after_help = "Examples:
  bondgate support                          write bondgate-support-TIME.txt into the current directory
  bondgate support --config FILE --live     also test DNS, outbound proxy, TLS, clock, token and API
  bondgate support --output - | less        read it first; in a container whose disk is read-only, too
  sudo bondgate support                     as the service's user or root, who may read its files")]
pub(super) struct SupportArgs {
    /// The file to write, for its owner alone; - for standard output. An existing file is not overwritten [default:
    /// bondgate-support-TIME.txt]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Let the check also test DNS, outbound proxy, TLS, clock, token and API. Takes no message off a queue
    #[arg(long)]
    live: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: SupportArgs) -> anyhow::Result<Exit> {
    let now = SystemTime::now();
    // Windows allows no colon in the name of a file.
    let time = humantime::format_rfc3339_seconds(now).to_string();
    let path = args.output.unwrap_or_else(|| {
        let name = format!("bondgate-support-{}.txt", time.replace(':', ""));
        name.into()
    });
    if path == Path::new("-") {
        let bundle = collect(args.admin, args.live);
        io::stdout()
            .write_all(bundle.text(now).as_bytes())
            .or_else(ignore_closed)
            .context("cannot write to standard output")?;
        report(&bundle, |line| {
            let _ = writeln!(io::stderr(), "{line}");
            Ok(())
        })?;
        return Ok(Exit::Done);
    }
    let file = OutputFile::new(path)?;
    let bundle = collect(args.admin, args.live);
    let text = bundle.text(now);
    file.write(&text)?;
    output::line(format_args!(
        "wrote {} ({} KiB)",
        file.path().display(),
        text.len().div_ceil(1024)
    ))?;
    report(&bundle, |line| output::line(line))?;
    Ok(Exit::Done)
}

/// Collects everything. Nothing that fails ends it.
fn collect(admin: AdminArgs, is_live: bool) -> Bundle {
    // Not the file that the daemon names: whoever holds its port could have this user's files read, and sent by a check.
    let file = admin.file();
    let configuration = Configuration::read(file);
    let daemon = Daemon::ask(admin, configuration.config().map(|config| &config.admin));
    let mut bundle = Bundle::new(Secrets::of(&configuration));
    bundle.add_gaps(configuration.differences(&daemon));
    bundle.add("Program", "", Ok(facts::program()));
    bundle.add("Machine", "", Ok(facts::machine(&daemon, &configuration)));
    bundle.add(
        "Configuration",
        "as `bondgate check --print` shows it",
        configuration.settings(),
    );
    bundle.add("Check", "", configuration.check(is_live));
    bundle.add("Status", "/status.json of the admin listener", daemon.status());
    bundle.add("Problems", "those that last", daemon.problems_that_last());
    bundle.add(
        "Last hour",
        "warnings, errors and changes of state, those of one kind together with the last line, the latest first",
        daemon.recent_reports(),
    );
    bundle.add("Spool", "", configuration.spool());
    let (from, lines) = log_file::last_lines(&daemon, &configuration);
    bundle.add("Log", &from, lines);
    bundle.add("Metrics", "/metrics of the admin listener", daemon.metrics());
    bundle
}

/// Says what is in the bundle, and what is not.
fn report(bundle: &Bundle, line: impl Fn(&str) -> io::Result<()>) -> anyhow::Result<()> {
    line(&format!("contains: {}", bundle.titles().join(", ")))?;
    for gap in bundle.missing() {
        line(&format!("missing: {gap}"))?;
    }
    line(bundle::READ_IT)?;
    Ok(())
}

/// A reader that closes its end early, as `head` does, changes nothing.
fn ignore_closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    }
}
