//! `bondgate explain`: what the catalogue says about a problem.

use clap::Args;

use super::{Exit, output};
use crate::problems::{self, Area, Entry};

/// Explain a problem by its code, with cause and fix; without a code, list all problems
#[derive(Args)]
#[command(after_help = "For example: bondgate explain tls-intercepted")]
pub(super) struct ExplainArgs {
    /// The code, as `bondgate check`, the log, the status and the responses show it
    code: Option<String>,
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let Some(code) = &args.code else {
        output::line(list())?;
        return Ok(Exit::Done);
    };
    // The type of a response is the code with a prefix.
    let code = code.strip_prefix("urn:bondgate:problem:").unwrap_or(code);
    let Some(entry) = problems::find(code) else {
        let nearest = nearest(code);
        output::error(format_args!(
            "{code:?} is not a code; did you mean {nearest}? `bondgate explain` lists all; see also --help"
        ));
        return Ok(Exit::Usage);
    };
    output::line(explanation(entry))?;
    Ok(Exit::Done)
}

fn explanation(entry: &Entry) -> String {
    let Entry {
        code,
        severity,
        area,
        explanation,
        ..
    } = entry;
    let [cause, fix] = entry.example();
    let has_values = entry.templates() != [&*cause, &*fix];
    let example = if has_values { ", for example:" } else { "" };
    let follow = match entry.hides {
        [] => String::new(),
        hides => format!(
            "\nProblems that follow from it and are not reported beside it: {}.",
            hides.join(", ")
        ),
    };
    format!("{code} ({severity}, {area}){example}\n\nCause: {cause}\nFix:   {fix}\n\n{explanation}{follow}")
}

/// The code and cause of each problem, by area.
fn list() -> String {
    let width = problems::all().map(|entry| entry.code.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    let mut area: Option<Area> = None;
    for entry in problems::all() {
        if area != Some(entry.area) {
            let break_before = if area.is_some() { "\n" } else { "" };
            lines.push(format!("{break_before}{}", entry.area));
        }
        area = Some(entry.area);
        lines.push(format!("  {:width$}  {}", entry.code, entry.example()[0]));
    }
    lines.join("\n")
}

/// The code that is most like this word.
fn nearest(word: &str) -> &'static str {
    let likeness = |entry: &&Entry| strsim::jaro_winkler(entry.code, word);
    let containing = problems::all().find(|entry| entry.code.contains(word));
    let nearest = || problems::all().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    containing.or_else(nearest).map_or("", |entry| entry.code)
}
