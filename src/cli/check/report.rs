//! The steps of a check: as lines, or as JSON.

use std::io;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::Exit;
use crate::cli::output::{self, Mark};
use crate::config::{Fault, Origin};
use crate::platform::processes::{ADMINISTRATOR, is_administrator};
use crate::problems::{Area, Problem, Severity};
use crate::telemetry::program;

/// Collects the steps of a check, and prints each at its end.
pub(super) struct Report {
    is_json: bool,
    steps: Vec<Value>,
    /// Each problem so far, with the upstream that it is of.
    found: Vec<(Option<String>, Problem)>,
    failed: Option<Exit>,
}

/// What a step found: a result, and problems.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) text: String,
    pub(super) problems: Vec<Problem>,
    /// Whether each problem is an error here, also a warning.
    pub(super) is_failure: bool,
}

impl From<Result<String, Problem>> for Outcome {
    fn from(result: Result<String, Problem>) -> Self {
        match result {
            Ok(text) => Self {
                text,
                ..Self::default()
            },
            Err(problem) => Self {
                problems: vec![problem],
                ..Self::default()
            },
        }
    }
}

impl Outcome {
    /// A step that has failed, also for what will work again without a change and so is a warning elsewhere.
    pub(super) fn failure(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
            is_failure: true,
            ..Self::default()
        }
    }
}

impl Report {
    pub(super) fn new(is_json: bool) -> Self {
        Self {
            is_json,
            steps: Vec::new(),
            found: Vec::new(),
            failed: None,
        }
    }

    /// Adds a step that has ended. A problem that follows from an earlier one is left out.
    pub(super) fn step(
        &mut self,
        name: &str,
        upstream: Option<&str>,
        started: Instant,
        outcome: impl Into<Outcome>,
    ) -> io::Result<()> {
        let took = started.elapsed();
        let Outcome {
            text,
            problems,
            is_failure,
        } = outcome.into();
        let hidden = problems
            .iter()
            .find_map(|problem| self.cause_of(upstream, problem));
        let hidden = hidden.map(|code| format!("follows from {code}"));
        let (mut shown, mut mark) = (Vec::new(), Mark::Ok);
        for problem in problems {
            if self.cause_of(upstream, &problem).is_some() {
                continue;
            }
            let is_error = is_failure || problem.entry().severity == Severity::Error;
            mark = match (mark, is_error) {
                (_, true) => Mark::Failed,
                (Mark::Ok, false) => Mark::Warning,
                (mark, false) => mark,
            };
            if is_error {
                self.fail(exit_code(problem.entry().area));
            }
            self.found.push((upstream.map(str::to_owned), problem.clone()));
            shown.push(problem);
        }
        match hidden {
            Some(reason) if shown.is_empty() && text.is_empty() => self.skip(name, upstream, &reason),
            _ => self.print(name, upstream, mark, Some(took), &text, &shown),
        }
    }

    /// Adds a step that cannot be done.
    pub(super) fn skip(&mut self, name: &str, upstream: Option<&str>, reason: &str) -> io::Result<()> {
        self.print(name, upstream, Mark::Skipped, None, reason, &[])
    }

    /// Adds the step that reads the configuration. Its faults and warnings are lines of their own.
    pub(super) fn configuration(
        &mut self,
        started: Instant,
        place: &str,
        faults: &[Fault],
        warnings: &[Fault],
    ) -> io::Result<()> {
        let took = started.elapsed();
        let (mark, text) = match faults {
            [] if is_administrator() => (
                Mark::Ok,
                format!(
                    "{place} is valid; checked as {ADMINISTRATOR}, and the service's user may have fewer rights"
                ),
            ),
            [] => (Mark::Ok, format!("{place} is valid")),
            faults => (Mark::Failed, format!("{place} has faults: {}", faults.len())),
        };
        if !faults.is_empty() {
            self.fail(Exit::Configuration);
        }
        if !self.is_json {
            self.print("configuration", None, mark, Some(took), &text, &[])?;
            warnings
                .iter()
                .try_for_each(|warning| output::line(format_args!("warning: {warning}")))?;
            return faults.iter().try_for_each(output::line);
        }
        let mut step = step("configuration", None, mark, Some(took), &text);
        step["problems"] = faults.iter().chain(warnings).map(fault).collect();
        self.steps.push(step);
        Ok(())
    }

    /// Prints what is printed at the end, and returns the exit code.
    pub(super) fn finish(self, file: Option<&std::path::Path>) -> io::Result<Exit> {
        let exit = self.failed.unwrap_or(Exit::Done);
        if self.is_json {
            let document = json!({
                "version": program::VERSION,
                "is_root": is_administrator(),
                "configuration": file.map(|file| file.display().to_string()),
                "exit_code": exit as u8,
                "steps": self.steps,
            });
            output::line(format_args!("{document:#}"))?;
        }
        Ok(exit)
    }

    /// The code of an earlier problem that is this one, or causes it.
    fn cause_of(&self, upstream: Option<&str>, problem: &Problem) -> Option<&'static str> {
        // One `ca_file` makes the certificates of both hosts trusted.
        let is_same_authority = |cause: &Problem| {
            [cause.code(), problem.code()] == ["unknown-ca"; 2] && cause.fix() == problem.fix()
        };
        let is_cause = |(of, cause): &&(Option<String>, Problem)| {
            let is_near = of.is_none() || of.as_deref() == upstream;
            let hides = cause.entry().hides.contains(&problem.code());
            is_near && (cause == problem || hides || is_same_authority(cause))
        };
        self.found.iter().find(is_cause).map(|(_, cause)| cause.code())
    }

    /// The smallest code is the first area that failed.
    fn fail(&mut self, exit: Exit) {
        let failed = self.failed.map_or(exit, |failed| failed.min(exit));
        self.failed = Some(failed);
    }

    fn print(
        &mut self,
        name: &str,
        upstream: Option<&str>,
        mark: Mark,
        took: Option<Duration>,
        text: &str,
        problems: &[Problem],
    ) -> io::Result<()> {
        if self.is_json {
            let mut step = step(name, upstream, mark, took, text);
            step["problems"] = problems.iter().map(problem).collect();
            self.steps.push(step);
            return Ok(());
        }
        let label = upstream.map_or(name.to_owned(), |upstream| format!("{upstream}: {name}"));
        let took = took.map_or(String::new(), |took| format!(" ({} ms)", took.as_millis()));
        // What works beside a warning has a line of its own.
        if problems.is_empty() || mark == Mark::Warning && !text.is_empty() {
            let mark = if problems.is_empty() { mark } else { Mark::Ok };
            output::line(format_args!("  {mark}  {label:20} {text}{took}"))?;
        }
        for problem in problems {
            let mark = match problem.entry().severity {
                // A warning fails a step that has it alone.
                Severity::Warning if mark == Mark::Warning || problems.len() > 1 => Mark::Warning,
                _ => Mark::Failed,
            };
            let code = problem.code();
            output::line(format_args!("  {mark}  {label:20} {problem} [{code}]{took}"))?;
        }
        Ok(())
    }
}

fn step(name: &str, upstream: Option<&str>, mark: Mark, took: Option<Duration>, text: &str) -> Value {
    json!({
        "step": name,
        "upstream": upstream,
        "result": mark.name(),
        "duration_ms": took.map(|took| took.as_millis()),
        "text": text,
    })
}

fn problem(problem: &Problem) -> Value {
    json!({
        "code": problem.code(),
        "severity": problem.entry().severity,
        "cause": problem.cause(),
        "fix": problem.fix(),
    })
}

fn fault(fault: &Fault) -> Value {
    let place = (fault.origin != Origin::Default).then(|| fault.origin.to_string());
    let mut value = problem(&fault.problem);
    value["place"] = json!(place);
    value["key"] = fault.key.to_string().into();
    value
}

/// The exit code of a problem.
fn exit_code(area: Area) -> Exit {
    match area {
        Area::Network | Area::OutboundProxy => Exit::Network,
        Area::Tls => Exit::Tls,
        Area::Token => Exit::Token,
        Area::Api => Exit::Api,
        _ => Exit::Configuration,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::{network, tls};

    #[test]
    fn a_problem_that_follows_from_another_is_not_reported_and_the_first_area_that_failed_decides() {
        let mut report = Report::new(true);
        let now = Instant::now();
        let wrong = tls::clock_wrong("1970-01-01", "2026-11-29");
        let expired = || tls::certificate_expired("API call", "a:443", "2026-01-01", "1970-01-01");
        let refused = network::connection_refused("API call", "b:443", "192.0.2.1:443");
        report.step("clock", None, now, Err(wrong)).unwrap();
        report.step("TLS", Some("a"), now, Err(expired())).unwrap();
        report.step("TLS", Some("b"), now, Err(refused)).unwrap();
        let results: Vec<_> = report.steps.iter().map(|step| step["result"].clone()).collect();
        assert_eq!(results, ["failed", "skipped", "failed"]);
        assert_eq!(report.steps[1]["text"], "follows from clock-wrong");
        assert!(report.failed == Some(Exit::Network));
    }

    #[test]
    fn a_step_that_succeeds_with_a_known_warning_is_no_skipped_one() {
        let mut report = Report::new(true);
        for name in ["TLS (token)", "TLS (API)"] {
            let outcome = Outcome {
                text: "the certificate is trusted".to_owned(),
                problems: vec![tls::certificate_expires_soon("a:443", "2026-12-01")],
                ..Outcome::default()
            };
            report.step(name, Some("a"), Instant::now(), outcome).unwrap();
        }
        let results: Vec<_> = report.steps.iter().map(|step| step["result"].clone()).collect();
        assert_eq!(results, ["warning", "ok"]);
    }

    #[test]
    fn an_authority_that_is_not_trusted_is_reported_once_for_both_hosts() {
        let mut report = Report::new(true);
        for (call, to, issuer) in [
            ("token request", "a:443", "CN=one"),
            ("API request", "b:443", "CN=one"),
            ("API request", "c:443", "CN=two"),
        ] {
            let unknown = tls::unknown_ca(call, to, "CN=server", issuer);
            report
                .step("TLS", Some("a"), Instant::now(), Err(unknown))
                .unwrap();
        }
        let results: Vec<_> = report.steps.iter().map(|step| step["result"].clone()).collect();
        assert_eq!(results, ["failed", "skipped", "failed"]);
    }

    #[test]
    fn a_problem_of_one_upstream_hides_none_of_another() {
        let mut report = Report::new(true);
        let now = Instant::now();
        let expired = || tls::certificate_expired("API call", "a:443", "2026-01-01", "1970-01-01");
        report
            .step("clock", Some("a"), now, Err(tls::clock_wrong("1970", "2026")))
            .unwrap();
        report.step("TLS", Some("b"), now, Err(expired())).unwrap();
        assert_eq!(report.steps[1]["result"], "failed");
    }
}
