//! What the text of the metrics has, and that the guide describes exactly that.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// All metrics, each with a sample.
fn populated() -> Arc<Metrics> {
    let metrics = Metrics::new();
    metrics.count_reload(true);
    metrics.count_refusal("path-refused");
    metrics.set_certificate_expiry("127.0.0.1:8443", 2e9);
    let upstream = metrics.upstream("cisco");
    upstream.count_response(200);
    upstream.count_own_response("dns_error");
    upstream.count_token_request("ok");
    upstream.set_token_state("fresh", &["starting", "fresh"]);
    upstream.set_token_expiry(2e9);
    upstream.set_clock_skew(0);
    upstream.connections.count_failure("dns_error");
    upstream.pulls.set_last_success();
    metrics
}

fn problems() -> [LastingProblem; 2] {
    [
        (None, "spool", "dead-letters"),
        (Some("cisco"), "api", "api-unavailable"),
    ]
    .map(|(upstream, call, code)| LastingProblem {
        upstream: upstream.map(str::to_owned),
        call,
        code,
    })
}

#[test]
fn what_is_counted_is_in_the_text_for_prometheus() {
    let metrics = populated();
    for text in [
        metrics.text(TextFormat::OpenMetrics, &problems()),
        metrics.text(TextFormat::Prometheus, &problems()),
    ] {
        for line in [
            "bondgate_requests_total{upstream=\"cisco\",status=\"200\"} 1",
            "bondgate_own_answers_total{upstream=\"cisco\",error=\"dns_error\"} 1",
            "bondgate_token_state{upstream=\"cisco\",state=\"fresh\"} 1",
            "bondgate_token_state{upstream=\"cisco\",state=\"starting\"} 0",
            "bondgate_refusals_total{reason=\"path-refused\"} 1",
            "bondgate_upstream_connections_failed_total{upstream=\"cisco\",reason=\"dns_error\"} 1",
            "bondgate_pulls_total{upstream=\"cisco\",result=\"empty\"} 0",
            "bondgate_problem{call=\"spool\",code=\"dead-letters\"} 1",
            "bondgate_problem{upstream=\"cisco\",call=\"api\",code=\"api-unavailable\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        let build = format!("bondgate_build_info{{version=\"{}\",commit=\"", program::VERSION);
        let line = text.lines().find(|line| line.starts_with(&build));
        assert!(line.is_some_and(|line| line.ends_with("\"} 1")), "{text}");
    }
}

#[test]
fn a_problem_that_is_over_is_not_in_the_next_text() {
    let metrics = Metrics::new();
    let text = metrics.text(TextFormat::Prometheus, &problems());
    assert_eq!(text.matches("bondgate_problem{").count(), 2, "{text}");
    let text = metrics.text(TextFormat::Prometheus, &[]);
    assert!(!text.contains("bondgate_problem{"), "{text}");
}

#[test]
fn before_the_first_pull_its_time_is_not_known() {
    let metrics = Metrics::new();
    let _upstream = metrics.upstream("cisco");
    assert!(!metrics.encode().contains("last_successful_pull"));
}

/// Type and labels of each metric, by the name under which Prometheus describes it.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

/// What a text in Prometheus' format has.
fn described(text: &str) -> Described {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let described = types.map(|line| {
        let (name, kind) = line.split_once(' ').unwrap();
        let samples = text.lines().filter(|line| {
            let sample = line.split(['{', ' ']).next().unwrap();
            let sample = ["_bucket", "_count", "_sum"]
                .iter()
                .find_map(|end| {
                    let family = sample.strip_suffix(end)?;
                    (kind == "histogram").then_some(family)
                })
                .unwrap_or(sample);
            sample == name
        });
        let labels = samples.flat_map(|line| {
            let labels = line.split_once('{').map_or("", |(_, labels)| labels);
            labels.split("\",").filter_map(|label| label.split_once("=\""))
        });
        let mut labels: BTreeSet<_> = labels.map(|(name, _)| name.to_owned()).collect();
        if kind == "histogram" {
            labels.remove("le");
        }
        (name.to_owned(), (kind.to_owned(), labels))
    });
    described.collect()
}

/// What the tables of the guide describe: rows of name, type, labels, meaning.
fn documented() -> Described {
    let guide = include_str!("../../../config/guides/monitoring.md");
    let rows = guide.lines().filter(|line| line.starts_with("| `"));
    let rows = rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else {
            panic!("{row} has not four cells");
        };
        assert!(!meaning.is_empty(), "{row} has no meaning");
        let code = |cell: &str| cell.trim_matches('`').to_owned();
        let labels = labels.split(", ").map(code).filter(|label| !label.is_empty());
        (code(name), (kind.to_owned(), labels.collect()))
    });
    let documented: Described = rows.collect();
    assert!(documented.len() > 40, "the tables are there");
    documented
}

#[test]
fn the_guide_describes_each_metric_with_its_type_and_labels_and_no_other() {
    let metrics = populated();
    let found = described(&metrics.text(TextFormat::Prometheus, &problems()));
    let unfounded: Vec<_> = metrics
        .registrar
        .names
        .iter()
        .filter(|name| {
            !["", "_total", "_info"]
                .iter()
                .any(|end| found.contains_key(&format!("{name}{end}")))
        })
        .collect();
    assert!(
        unfounded.is_empty(),
        "{unfounded:?} have no sample here; add one to `populated`"
    );
    let documented = documented();
    // Other systems tell less of the process.
    let is_complete = |name: &&String| cfg!(target_os = "linux") || name.starts_with("bondgate_");
    let names: BTreeSet<_> = found.keys().chain(documented.keys()).collect();
    let differences: Vec<_> = names
        .into_iter()
        .filter(is_complete)
        .filter(|name| found.get(*name) != documented.get(*name))
        .map(|name| {
            format!(
                "{name}: {:?}, in the guide {:?}",
                found.get(name),
                documented.get(name)
            )
        })
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn the_guide_names_every_alert() {
    let guide = include_str!("../../../config/guides/monitoring.md");
    let rules = include_str!("../../../config/monitoring/alerts.yaml");
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let named: BTreeSet<&str> = guide
        .lines()
        .filter_map(|line| line.trim_end_matches(" |").rsplit_once("| "))
        .flat_map(|(_, names)| names.split(", "))
        .collect();
    let missing: Vec<_> = alerts.filter(|alert| !named.contains(alert)).collect();
    assert!(missing.is_empty() && rules.contains("- alert: "), "{missing:?}");
}
