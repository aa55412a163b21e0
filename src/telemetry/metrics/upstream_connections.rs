//! The metrics of the connections to an upstream.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::registrar::{Labels, Registrar};

/// The families of these metrics, over all upstreams.
pub(super) struct ConnectionFamilies {
    open: Family<Labels<1>, Gauge>,
    opened: Family<Labels<1>, Counter>,
    reused: Family<Labels<1>, Counter>,
    failed: Family<Labels<2>, Counter>,
}

/// The connections of all workers to one upstream. The default is registered nowhere.
#[derive(Clone, Default)]
pub struct UpstreamConnections {
    open: Gauge,
    opened: Counter,
    reused: Counter,
    failed: Family<Labels<2>, Counter>,
    upstream: Labels<1>,
}

/// A connection that counts as open until this is dropped.
pub struct OpenConnection {
    open: Gauge,
    reused: Counter,
    is_used: bool,
}

impl ConnectionFamilies {
    /// Empty families, registered.
    pub(super) fn register(to: &mut Registrar) -> Self {
        let name = |name: &str| format!("upstream_connections{name}");
        Self {
            open: to.add(&name(""), "Open connections to the upstream"),
            opened: to.add(&name("_opened"), "Connections to the upstream that were opened"),
            reused: to.add(
                &name("_reused"),
                "Requests sent on a connection that had carried another",
            ),
            failed: to.add(
                &name("_failed"),
                "Connections to the upstream that failed, by reason",
            ),
        }
    }

    /// The metrics of one upstream.
    pub(super) fn of(&self, upstream: &Labels<1>) -> UpstreamConnections {
        UpstreamConnections {
            open: self.open.get_or_create(upstream).clone(),
            opened: self.opened.get_or_create(upstream).clone(),
            reused: self.reused.get_or_create(upstream).clone(),
            failed: self.failed.clone(),
            upstream: upstream.clone(),
        }
    }
}

impl UpstreamConnections {
    /// Counts a connection that was opened.
    #[must_use]
    pub fn opened(&self) -> OpenConnection {
        self.opened.inc();
        self.open.inc();
        OpenConnection {
            open: self.open.clone(),
            reused: self.reused.clone(),
            is_used: false,
        }
    }

    /// Counts a connection that could not be opened.
    pub fn count_failure(&self, reason: &'static str) {
        let [upstream] = self.upstream.clone();
        let labels = [upstream, ("reason", reason.into())];
        self.failed.get_or_create(&labels).inc();
    }
}

impl OpenConnection {
    /// Counts a request on it, unless it is the first.
    pub fn count_request(&mut self) {
        if std::mem::replace(&mut self.is_used, true) {
            self.reused.inc();
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_it_is_dropped_and_reused_from_its_second_request_on() {
        let connections = UpstreamConnections::default();
        let mut connection = connections.opened();
        let other = connections.opened();
        assert_eq!((connections.opened.get(), connections.open.get()), (2, 2));
        connection.count_request();
        assert_eq!(connections.reused.get(), 0);
        connection.count_request();
        connection.count_request();
        assert_eq!(connections.reused.get(), 2);
        drop((connection, other));
        assert_eq!((connections.opened.get(), connections.open.get()), (2, 0));
    }
}
