//! The two text formats in which metrics are read: Prometheus' own, and OpenMetrics.

use std::fmt::Write as _;

/// A text format for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// The text format 0.0.4 of Prometheus, which every scraper reads.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl TextFormat {
    /// The format for a request with this `Accept`: OpenMetrics only if it is named.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let named = |range: &str| {
            let (kind, _) = range.split_once(';').unwrap_or((range, ""));
            kind.trim().eq_ignore_ascii_case("application/openmetrics-text")
        };
        if accept.split(',').any(named) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The text of OpenMetrics in Prometheus' format. The samples are the same in both, unless they have exemplars, which
/// bondgate's have not. But Prometheus describes a metric under the name of its samples, has no type for metrics that
/// are constant, and knows neither units nor an end.
pub(super) fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            // The type, which follows, decides about the name.
            help = described.split_once(' ').map_or("", |(_, help)| help);
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                same => ("", same),
            };
            let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_scraper_that_names_open_metrics_gets_it() {
        for (accept, format) in [
            ("", TextFormat::Prometheus),
            ("*/*", TextFormat::Prometheus),
            ("text/plain;version=0.0.4", TextFormat::Prometheus),
            ("application/openmetrics-text", TextFormat::OpenMetrics),
            (
                "Application/OpenMetrics-Text;version=1.0.0;q=0.5, text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
                TextFormat::OpenMetrics,
            ),
            (
                "text/plain;q=0.5, application/openmetrics-text; version=0.0.1",
                TextFormat::OpenMetrics,
            ),
        ] {
            assert_eq!(TextFormat::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn a_counter_is_described_under_the_name_of_its_samples() {
        let text = "# HELP a_requests Requests.\n# TYPE a_requests counter\na_requests_total{path=\"# TYPE\"} 7\n# EOF\n";
        let expected = "# HELP a_requests_total Requests.\n# TYPE a_requests_total counter\na_requests_total{path=\"# TYPE\"} 7\n";
        assert_eq!(to_prometheus(text), expected);
    }

    #[test]
    fn constant_labels_are_a_gauge() {
        let text = "# HELP a_build The version.\n# TYPE a_build info\na_build_info{version=\"1\"} 1\n# EOF\n";
        let expected =
            "# HELP a_build_info The version.\n# TYPE a_build_info gauge\na_build_info{version=\"1\"} 1\n";
        assert_eq!(to_prometheus(text), expected);
    }

    #[test]
    fn gauges_and_histograms_lose_their_unit_alone() {
        let text = "# HELP a_time_seconds Time.\n# TYPE a_time_seconds histogram\n# UNIT a_time_seconds seconds\n\
                    a_time_seconds_sum 0.5\na_time_seconds_count 1\na_time_seconds_bucket{le=\"+Inf\"} 1\n\
                    # HELP a_open Open.\n# TYPE a_open gauge\na_open 3\n# EOF\n";
        let expected = "# HELP a_time_seconds Time.\n# TYPE a_time_seconds histogram\n\
                    a_time_seconds_sum 0.5\na_time_seconds_count 1\na_time_seconds_bucket{le=\"+Inf\"} 1\n\
                    # HELP a_open Open.\n# TYPE a_open gauge\na_open 3\n";
        assert_eq!(to_prometheus(text), expected);
    }
}
