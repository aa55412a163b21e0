//! `bondgate status`: what the status page shows, for a terminal.

use clap::Args;
use serde_json::Value;

use super::Exit;
use super::admin_client::AdminArgs;
use super::output::{self, Mark, escaped};

/// Show what a running daemon does: tokens, spool and problems; exit code 0 means that no error is active
#[derive(Args)]
pub(super) struct StatusArgs {
    /// Print the status document itself, as /status.json
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) fn run(args: StatusArgs) -> anyhow::Result<Exit> {
    let client = args.admin.client()?;
    let response = client.get("/status.json")?;
    let status: Value = match (response.status, serde_json::from_str(&response.body)) {
        (200, Ok(status)) if is_status(&status) => status,
        _ => return Err(client.refused(&response).into()),
    };
    if args.json {
        // In the strings of bondgate's document an escape is the same; what another program sends cannot control the terminal.
        response.body.lines().map(escaped).try_for_each(output::line)?;
    } else {
        print(&status)?;
    }
    let is_well = status["ready"] == true && !lines(&status).any(|(mark, _)| mark == Mark::Failed);
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

/// Whether a document is bondgate's: other programs have a /status.json, too.
pub(super) fn is_status(document: &Value) -> bool {
    document["version"].is_string() && document["upstreams"].is_array()
}

/// Prints a document, which another program may have sent.
fn print(status: &Value) -> std::io::Result<()> {
    let text = |key: &str| text(&status[key]);
    let print = |line: &str| output::line(escaped(line));
    let ready = if status["ready"] == true {
        "ready"
    } else {
        "not ready"
    };
    print(&format!(
        "bondgate {}, started {}, configured {}, {}, {ready}",
        text("version"),
        text("started"),
        text("configured"),
        text("phase"),
    ))?;
    if let Some(line) = stop(&status["stop"]) {
        print(&line)?;
    }
    for (mark, line) in lines(status) {
        output::line(format_args!("  {mark}  {}", escaped(&line)))?;
    }
    for listener in items(&status["listeners"]) {
        print(&self::listener(listener))?;
    }
    print(&format!("spool: {}", self::text(&status["spool"]["text"])))?;
    for refusal in items(&status["refusals"]) {
        print(&self::refusal(refusal))?;
    }
    Ok(())
}

/// Since when a stop runs, and until when it may.
fn stop(stop: &Value) -> Option<String> {
    let (since, until) = (stop["since"].as_str()?, stop["until"].as_str()?);
    Some(format!("stopping since {since}, until {until} at the latest"))
}

/// Where a listener listens, and the address in the configuration if that is another one.
fn listener(listener: &Value) -> String {
    let (configured, upstream) = (text(&listener["configured"]), text(&listener["upstream"]));
    let bound: Vec<_> = items(&listener["bound"]).map(text).collect();
    let (bound, configured) = match bound.join(", ") {
        // A daemon of an earlier version.
        bound if bound.is_empty() => (text(&listener["address"]).to_owned(), String::new()),
        bound if bound == configured => (bound, String::new()),
        bound => (bound, format!(" (configured as {configured})")),
    };
    format!("listening on {bound}{configured} for {upstream}")
}

/// Connections that a listener refused for one problem.
fn refusal(refusal: &Value) -> String {
    let [listener, problem, first, last] =
        ["listener", "problem", "first", "last"].map(|key| text(&refusal[key]));
    let status = refusal["status"].as_u64();
    let response = status.map_or("no response".to_owned(), |status| status.to_string());
    let number = refusal["number"].as_u64().unwrap_or_default();
    let callers: Vec<_> = items(&refusal["callers"]).map(text).collect();
    let from = if callers.is_empty() { "" } else { ", last from " };
    let callers = callers.join(", ");
    format!(
        "refused at {listener}: {number} since {first}, last at {last}{from}{callers} ({response}) [{problem}]"
    )
}

/// A line for each token and each problem.
pub(super) fn lines(status: &Value) -> impl Iterator<Item = (Mark, String)> {
    let tokens = items(&status["upstreams"]).map(token);
    tokens.chain(items(&status["problems"]).map(problem))
}

fn token(upstream: &Value) -> (Mark, String) {
    let token = &upstream["token"];
    let state = text(&token["state"]);
    let mark = match state {
        "fresh" | "refreshing" => Mark::Ok,
        "starting" | "degraded" => Mark::Warning,
        _ => Mark::Failed,
    };
    let mut line = format!(
        "{} ({}): token {state} since {}",
        text(&upstream["name"]),
        text(&upstream["url"]),
        text(&token["since"]),
    );
    let parts = [
        token["expires"].as_str().map(|at| format!("expires {at}")),
        token["next_attempt_s"]
            .as_u64()
            .map(|wait| format!("next attempt in {wait} s")),
        token["clock"].as_str().map(|clock| format!("clock {clock}")),
        // The problem has a line of its own.
        token["last_error"]["message"]
            .as_str()
            .filter(|_| token["problem"].is_null())
            .map(|message| format!("last error: {message}")),
        api(&upstream["api"]),
    ];
    for part in parts.into_iter().flatten() {
        line = line + ", " + &part;
    }
    (mark, line)
}

/// What is known of an API. What fails has a line of its own.
fn api(api: &Value) -> Option<String> {
    let [state, words, at] = ["state", "text", "last_response"].map(|key| text(&api[key]));
    match api["last_status"].as_u64() {
        Some(status) if state == "token_rejected" => Some(format!("API {words} with {status} at {at}")),
        Some(status) => Some(format!("API responded {status} at {at}")),
        None => (state == "no_response").then(|| format!("API: {words}")),
    }
}

fn problem(problem: &Value) -> (Mark, String) {
    let mark = match text(&problem["severity"]) {
        "warning" => Mark::Warning,
        _ => Mark::Failed,
    };
    let [cause, fix, code, since] = ["cause", "fix", "code", "since"].map(|key| text(&problem[key]));
    // The spool and the configuration belong to no upstream.
    let call = text(&problem["call"]);
    let of = match (problem["upstream"].as_str(), problem["subject"].as_str()) {
        (Some(upstream), _) => upstream.to_owned(),
        (None, Some(place)) if call == "configuration" => format!("reload rejected, {place}"),
        _ => call.to_owned(),
    };
    (mark, format!("{of}: {cause}; {fix} [{code}], since {since}"))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refused_connections_are_shown_by_listener_and_problem() {
        let line = refusal(&json!({
            "listener": "localhost:8080", "problem": "request-malformed", "status": 400, "number": 3,
            "first": "A", "last": "B", "callers": ["10.0.0.7", "10.0.0.8"],
        }));
        assert_eq!(
            line,
            "refused at localhost:8080: 3 since A, last at B, last from 10.0.0.7, 10.0.0.8 (400) [request-malformed]"
        );
        let line = refusal(&json!({ "status": null, "callers": [] }));
        assert!(line.ends_with("last at  (no response) []"), "{line}");
    }

    #[test]
    fn a_stop_is_shown_with_its_begin_and_its_latest_end() {
        let line = stop(&json!({ "since": "A", "until": "B" })).unwrap();
        assert_eq!(line, "stopping since A, until B at the latest");
        assert_eq!(stop(&Value::Null), None);
    }

    #[test]
    fn a_listener_is_shown_where_it_listens_and_as_it_is_configured() {
        let line = |configured: &str, bound: &[&str]| {
            listener(&json!({
                "address": "localhost:8080", "configured": configured, "bound": bound, "upstream": "cisco",
            }))
        };
        let plain = line("127.0.0.1:8080", &["127.0.0.1:8080"]);
        assert_eq!(plain, "listening on 127.0.0.1:8080 for cisco");
        assert_eq!(
            line("localhost:8080", &["127.0.0.1:8080", "[::1]:8080"]),
            "listening on 127.0.0.1:8080, [::1]:8080 (configured as localhost:8080) for cisco"
        );
        let earlier = json!({ "address": "localhost:8080", "upstream": "cisco" });
        assert_eq!(listener(&earlier), "listening on localhost:8080 for cisco");
    }

    #[test]
    fn an_api_is_shown_with_what_is_known_of_it() {
        // The words are not what decides.
        for (name, status, expected) in [
            ("no_response", None, "API: WORDS"),
            ("token_rejected", Some(401), "API WORDS with 401 at T"),
            ("responds", Some(200), "API responded 200 at T"),
        ] {
            let state = json!({ "state": name, "text": "WORDS", "last_status": status, "last_response": "T", "problem": null });
            assert_eq!(api(&state).unwrap(), expected);
        }
        assert_eq!(
            api(&json!({ "state": "fails", "text": "fails", "problem": { "code": "dns" } })),
            None
        );
    }

    #[test]
    fn each_problem_has_a_line_with_its_fix_and_is_not_repeated_at_the_token() {
        let problem = json!({
            "code": "client-secret-refused", "severity": "error", "cause": "CAUSE", "fix": "FIX",
            "since": "2026-11-29T04:00:00Z", "upstream": "cisco", "call": "token",
        });
        let status = json!({
            "upstreams": [{
                "name": "cisco", "url": "https://api.example/",
                "token": {
                    "state": "degraded", "since": "2026-11-29T04:00:00Z", "problem": problem,
                    "last_error": { "message": "CAUSE; FIX" },
                },
                "api": { "last_status": 200, "last_response": "2026-11-29T03:00:00Z", "problem": null },
            }],
            "problems": [problem],
        });
        let [(token, token_line), (mark, line)] = &lines(&status).collect::<Vec<_>>()[..] else {
            panic!("a line for the token and one for the problem")
        };
        assert_eq!((*token, *mark), (Mark::Warning, Mark::Failed));
        assert!(!token_line.contains("CAUSE"), "{token_line}");
        assert!(
            token_line.ends_with("API responded 200 at 2026-11-29T03:00:00Z"),
            "{token_line}"
        );
        assert_eq!(
            line,
            "cisco: CAUSE; FIX [client-secret-refused], since 2026-11-29T04:00:00Z"
        );
    }
}
