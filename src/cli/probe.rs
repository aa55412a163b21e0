//! `bondgate probe`: queries the admin listener, for a container's HEALTHCHECK and exec probes.

use clap::{Args, ValueEnum};

use super::Exit;
use super::admin_client::AdminArgs;
use super::output::{self, escaped};

/// Query a running daemon's health; exit code 0 means live or ready
#[derive(Args)]
#[command(after_help = "For example in a Dockerfile: HEALTHCHECK CMD [\"/bondgate\", \"probe\", \"live\"]")]
pub(super) struct ProbeArgs {
    /// What to query
    #[arg(value_enum, default_value_t = Probe::Live)]
    probe: Probe,

    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Probe {
    /// /livez: the process responds
    Live,
    /// /readyz: callers may be sent here
    Ready,
}

/// The code of the problem that the listener requires a client certificate.
const NEEDS_CERTIFICATE: &str = "admin-needs-certificate";

pub(super) fn run(args: ProbeArgs) -> anyhow::Result<Exit> {
    let (path, expected) = match args.probe {
        Probe::Live => ("/livez", "live"),
        Probe::Ready => ("/readyz", "ready"),
    };
    let client = args.admin.client()?;
    let response = match client.get(path) {
        // A listener that asks for a certificate is alive.
        Err(problem) if args.probe == Probe::Live && problem.code() == NEEDS_CERTIFICATE => {
            return Ok(Exit::Done);
        }
        response => response?,
    };
    // Many a program responds with 200 to every path.
    if response.status == 200 && response.body.lines().next() != Some(expected) {
        return Err(client.not_bondgate().into());
    }
    response
        .body
        .trim_end()
        .lines()
        .map(escaped)
        .try_for_each(output::line)?;
    Ok(match response.status {
        200 => Exit::Done,
        _ => Exit::Failed,
    })
}
