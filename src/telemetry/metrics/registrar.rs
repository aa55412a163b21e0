//! Registers metrics, whose names begin with `bondgate_`, and encodes all of them.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::{Metric, Registry, Unit};

use super::process::Process;

/// Label names and values.
pub(super) type Labels<const N: usize> = [Label; N];
pub(super) type Label = (&'static str, Cow<'static, str>);

/// The registered metrics: bondgate's own, and those of the process.
pub(in super::super) struct Registrar {
    registry: Registry,
    process: Registry,
    /// The names of bondgate's own, without suffixes.
    #[cfg(test)]
    pub(super) names: Vec<String>,
}

impl Registrar {
    /// The metrics of the process alone.
    pub(super) fn new() -> Self {
        let mut process = Registry::default();
        process.register_collector(Box::new(Process::new()));
        Self {
            registry: Registry::with_prefix("bondgate"),
            process,
            #[cfg(test)]
            names: Vec::new(),
        }
    }

    /// Registers a metric at its default value, and returns it.
    pub(in super::super) fn add<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        let metric = M::default();
        self.register(name, help, metric.clone());
        metric
    }

    /// Registers a metric.
    pub(super) fn register(&mut self, name: &str, help: &str, metric: impl Metric) {
        #[cfg(test)]
        self.names.push(format!("bondgate_{name}"));
        self.registry.register(name, help, metric);
    }

    /// Registers a metric whose name ends with its unit.
    pub(super) fn register_with_unit(&mut self, name: &str, help: &str, unit: Unit, metric: impl Metric) {
        #[cfg(test)]
        self.names.push(format!("bondgate_{name}_{}", unit.as_str()));
        self.registry.register_with_unit(name, help, unit, metric);
    }

    /// The text of all metrics in OpenMetrics 1.0.
    pub(super) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &self.process)?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}
