//! The section of the charts: requests, errors and times of the last hour, for each upstream.

use std::time::Duration;

use askama::Template;

use super::chart::{Bar, bars, micros, scale};
use super::now::{Now, UpstreamNow};
use super::text::{count, duration};
use crate::telemetry::activity::Minute;

#[derive(Template)]
#[template(path = "traffic.html", config = "src/admin/page/askama.toml")]
pub(super) struct Traffic {
    upstreams: Vec<Charts>,
}

struct Charts {
    name: String,
    charts: [Chart; 3],
}

struct Chart {
    id: String,
    title: &'static str,
    /// The figures of the chart in words.
    summary: String,
    /// The top of the scale.
    top: String,
    bars: Vec<Bar>,
    /// Lighter bars behind them.
    behind: Vec<Bar>,
    /// Hatched bars over them.
    errors: Vec<Bar>,
    legend: [(&'static str, &'static str); 2],
}

pub(super) fn section(now: &Now<'_>) -> Traffic {
    Traffic {
        upstreams: now.upstreams.iter().enumerate().map(charts).collect(),
    }
}

fn charts((number, upstream): (usize, &UpstreamNow<'_>)) -> Charts {
    let id = |chart: &str| format!("chart-{number}-{chart}");
    let minutes = &upstream.minutes;
    let own = Times {
        title: "bondgate\u{2019}s own time",
        over: minutes.iter().map(|minute| u64::from(minute.answered)).sum(),
        sum: minutes.iter().map(|minute| minute.own_sum).sum(),
        each: minutes.map(|minute| (minute.own_mean(), minute.own_max)),
    };
    let api = Times {
        title: "Cisco\u{2019}s time",
        over: minutes.iter().map(|minute| u64::from(minute.sent)).sum(),
        sum: minutes.iter().map(|minute| minute.upstream_sum).sum(),
        each: minutes.map(|minute| (minute.upstream_mean(), minute.upstream_max)),
    };
    Charts {
        name: upstream.name.clone(),
        charts: [
            requests(id("requests"), minutes),
            own.chart(id("own")),
            api.chart(id("cisco")),
        ],
    }
}

fn requests(id: String, minutes: &[Minute; 60]) -> Chart {
    let sum = |of: fn(&Minute) -> u32| minutes.iter().map(|minute| u64::from(of(minute))).sum();
    let most = minutes
        .iter()
        .map(|minute| minute.requests.into())
        .max()
        .unwrap_or(0);
    let top = scale(most);
    Chart {
        id,
        title: "Requests per minute",
        summary: match most {
            0 => "no request".to_owned(),
            _ => format!(
                "{}, {}; at most {most} in a minute",
                count(sum(|minute| minute.requests), "request"),
                count(sum(|minute| minute.errors), "error"),
            ),
        },
        top: if most == 0 { String::new() } else { top.to_string() },
        bars: bars(minutes.map(|minute| minute.requests.into()), top),
        behind: Vec::new(),
        errors: bars(minutes.map(|minute| minute.errors.into()), top),
        legend: [("bar", "all"), ("errors", "errors")],
    }
}

struct Times {
    title: &'static str,
    /// The number of requests.
    over: u64,
    sum: Duration,
    /// The mean and the maximum of each minute.
    each: [(Duration, Duration); 60],
}

impl Times {
    fn chart(self, id: String) -> Chart {
        let most = self
            .each
            .iter()
            .map(|(_, longest)| *longest)
            .max()
            .unwrap_or_default();
        let top = scale(micros(most));
        let over = u32::try_from(self.over).unwrap_or(u32::MAX);
        let mean = self.sum.checked_div(over).unwrap_or_default();
        Chart {
            id,
            title: self.title,
            summary: match self.over {
                0 => "no request".to_owned(),
                _ => format!("{} on average, at most {}", duration(mean), duration(most)),
            },
            top: if self.over == 0 {
                String::new()
            } else {
                duration(Duration::from_micros(top))
            },
            bars: bars(self.each.map(|(mean, _)| micros(mean)), top),
            behind: bars(self.each.map(|(_, longest)| micros(longest)), top),
            errors: Vec::new(),
            legend: [("bar", "mean"), ("behind", "maximum")],
        }
    }
}
