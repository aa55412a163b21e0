//! The metrics of the process, under the names that Prometheus' own client libraries use. They are read at each scrape.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::platform::process_usage;

/// Reads what the process uses. What the system does not tell is left out.
#[derive(Debug)]
pub(super) struct Process {
    /// When it started, in seconds since 1970. Taken once: alerts count the changes as restarts.
    started: f64,
}

impl Process {
    /// The metrics of a process that starts now.
    pub(super) fn new() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            started: since_1970.unwrap_or_default().as_secs_f64(),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut encode = |name: &str, unit: Option<Unit>, help: &str, metric: &dyn EncodeMetric| {
            let described = encoder.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?;
            metric.encode(described)
        };
        if let Some(time) = process_usage::cpu_time() {
            let time = ConstCounter::new(time.as_secs_f64());
            encode("process_cpu", Some(Unit::Seconds), "Processor time used.", &time)?;
        }
        let started = ConstGauge::new(self.started);
        let help = "When the process started, seconds since 1970.";
        encode("process_start_time", Some(Unit::Seconds), help, &started)?;
        let (resident, virtual_memory) = ("process_resident_memory", "process_virtual_memory");
        for (name, unit, help, value) in [
            (
                resident,
                Some(Unit::Bytes),
                "Memory in use.",
                process_usage::resident_bytes(),
            ),
            (
                virtual_memory,
                Some(Unit::Bytes),
                "Address space in use.",
                process_usage::virtual_bytes(),
            ),
            ("process_threads", None, "Threads.", process_usage::threads()),
            (
                "process_open_fds",
                None,
                "Open file descriptors.",
                process_usage::open_descriptors(),
            ),
            (
                "process_max_fds",
                None,
                "The limit of open file descriptors.",
                process_usage::descriptor_limit(),
            ),
        ] {
            if let Some(value) = value {
                encode(name, unit, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}
