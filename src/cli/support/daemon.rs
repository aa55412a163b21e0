//! What a running daemon says of itself, on its admin listener.

use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use super::section_text::SectionText;
use crate::cli::admin_client::{AdminArgs, AdminClient, Response};
use crate::cli::status;
use crate::config::Admin;
use crate::problems::Problem;

/// The daemon that responds, or the reason why none does.
pub(super) struct Daemon(Result<Responding, String>);

struct Responding {
    client: AdminClient,
    document: String,
    status: Value,
}

/// Where a daemon says that it has no configuration file.
const ENVIRONMENT: &str = "environment";

impl Daemon {
    /// Asks the daemon for its status. If the configuration, which has the admin address, cannot be read, asks at the
    /// default address: the running daemon may have loaded an earlier version that was valid.
    pub(super) fn ask(arguments: AdminArgs, configured: Option<&Admin>) -> Self {
        let client = arguments.client_of(configured);
        let client = client.map_err(|error| format!("{error:#}"));
        Self(client.and_then(|client| {
            let response = client.get("/status.json").map_err(|problem| text(&problem))?;
            let document = accepted(&client, "/status.json", response)?.text;
            match serde_json::from_str(&document) {
                Ok(status) if status::is_status(&status) => Ok(Responding {
                    client,
                    document,
                    status,
                }),
                _ => Err(text(&client.not_bondgate())),
            }
        }))
    }

    /// Its process.
    pub(super) fn process(&self) -> Option<u32> {
        let id = self.0.as_ref().ok()?.status["pid"].as_u64()?;
        u32::try_from(id).ok()
    }

    /// Its configuration file.
    pub(super) fn configuration_file(&self) -> Option<&Path> {
        self.configuration()
            .filter(|file| *file != ENVIRONMENT)
            .map(Path::new)
    }

    /// When it loaded its configuration.
    pub(super) fn loaded(&self) -> Option<SystemTime> {
        let loaded = self.0.as_ref().ok()?.status["configured"].as_str()?;
        humantime::parse_rfc3339(loaded).ok()
    }

    /// Whether its environment alone configures it.
    pub(super) fn is_configured_by_environment(&self) -> bool {
        self.configuration() == Some(ENVIRONMENT)
    }

    fn configuration(&self) -> Option<&str> {
        self.0.as_ref().ok()?.status["configuration"].as_str()
    }

    /// The status document.
    pub(super) fn status(&self) -> Result<String, String> {
        Ok(self.responding()?.document.clone())
    }

    /// A line for each token, and for each problem that lasts.
    pub(super) fn problems_that_last(&self) -> Result<String, String> {
        let status = &self.responding()?.status;
        let lines = status::lines(status).map(|(mark, line)| format!("{}: {line}", mark.name()));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// The warnings, errors and changes of state of the last hour.
    pub(super) fn recent_reports(&self) -> Result<SectionText, String> {
        get(&self.responding()?.client, "/recent")
    }

    /// The last lines of its log.
    pub(super) fn recent_lines(&self) -> Result<SectionText, String> {
        get(&self.responding()?.client, "/log")
    }

    /// Its metrics.
    pub(super) fn metrics(&self) -> Result<SectionText, String> {
        get(&self.responding()?.client, "/metrics")
    }

    fn responding(&self) -> Result<&Responding, String> {
        self.0.as_ref().map_err(Clone::clone)
    }
}

/// Gets a path, or the first part of it.
fn get(client: &AdminClient, path: &str) -> Result<SectionText, String> {
    let response = client.get_part(path).map_err(|problem| text(&problem))?;
    accepted(client, path, response)
}

fn accepted(client: &AdminClient, path: &str, response: Response) -> Result<SectionText, String> {
    match response.status {
        200 => Ok(SectionText {
            text: response.body,
            gap: response
                .incomplete
                .map(|reason| format!("the response on {path} is incomplete ({reason})")),
        }),
        404 => Err(format!(
            "the bondgate that runs does not offer {path}; it is an older version"
        )),
        _ => Err(only_local(&response.body).unwrap_or_else(|| text(&client.refused(&response)))),
    }
}

/// The detail of the problem `admin-only-local`, if the response has it: this command called from another machine, or
/// through a proxy.
fn only_local(body: &str) -> Option<String> {
    let document: Value = serde_json::from_str(body).ok()?;
    let is_this = document["type"] == "urn:bondgate:problem:admin-only-local";
    is_this.then(|| document["detail"].as_str().unwrap_or_default().to_owned())
}

fn text(problem: &Problem) -> String {
    format!("{problem} [{}]", problem.code())
}
