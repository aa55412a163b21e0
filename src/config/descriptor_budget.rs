//! The budget of file descriptors: how many connections each part may hold.

use super::root::Config;
use super::source::{Fault, Origin};
use crate::problems::configuration;

/// Descriptors that are needed without any caller: listeners, runtimes, logs, token requests.
const BASE: usize = 64;
/// The most connections of the admin listener.
const ADMIN: usize = 64;
/// The most connections that get 503 at the connection limit at the same time.
const REFUSALS: usize = 256;

impl Config {
    /// Fits the limits on connections to the number of descriptors that the process may open. Warns if that
    /// lowers `limits.connections`.
    pub fn fit(&mut self, descriptors: usize) {
        let rest = descriptors.saturating_sub(BASE.min(descriptors / 2));
        // Each connection may need another one upstream; an eighth is left for everything else.
        let most = (rest / 16 * 7).max(1);
        let configured = self.limits.connections;
        if configured > most {
            self.limits.connections = most;
            let problem = configuration::connections_limited(most, configured, descriptors);
            self.warnings.push(Fault::at(Origin::Default, problem));
        }
        self.limits.refusals = (rest / 32).clamp(1, REFUSALS);
        self.admin.connections = (rest / 32).clamp(4, ADMIN);
        let workers = match self.server.workers {
            0 => 4,
            workers => workers,
        };
        // Each worker has a pool for each listener.
        let pools = workers.saturating_mul(self.listeners.len()).max(1);
        for upstream in &mut self.upstreams {
            upstream.pooled = (rest / 16 / pools).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(limits: &str, descriptors: usize) -> Config {
        let text = format!(
            "{limits}\n[upstream.api]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n\
             client_secret = {{ env = \"SECRET\" }}\n"
        );
        let mut config = Config::parse(&text, "test.toml", []).unwrap();
        config.warnings.clear();
        config.fit(descriptors);
        config
    }

    #[test]
    fn callers_take_less_than_half_of_the_descriptors() {
        for descriptors in [64, 128, 256, 1024, 4096, 20_000, 65_536, 1 << 20, usize::MAX] {
            let config = fitted("", descriptors);
            let limits = config.limits;
            assert!(limits.connections < descriptors / 2, "{descriptors}");
            let pooled = config.upstreams[0].pooled * 4;
            let callers = limits.connections + limits.refusals + config.admin.connections;
            let in_all = callers + limits.connections + pooled;
            assert!(in_all < descriptors, "{in_all} of {descriptors}");
        }
    }

    #[test]
    fn a_limit_above_the_budget_is_lowered_with_a_warning() {
        let config = fitted("", 20_000);
        assert_eq!((config.limits.connections, config.warnings.len()), (8192, 0));
        let config = fitted("", 256);
        assert_eq!(config.limits.connections, 84);
        let [warning] = &config.warnings[..] else {
            panic!("{:?}", config.warnings);
        };
        for word in ["84", "8192", "256", "LimitNOFILE"] {
            assert!(warning.to_string().contains(word), "{warning}");
        }
        let config = fitted("[limits]\nconnections = 50", 256);
        assert_eq!((config.limits.connections, config.warnings.len()), (50, 0));
    }
}
