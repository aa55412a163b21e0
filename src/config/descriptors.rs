//! What each part may take of the file descriptors that there are: a connection of a caller may need another
//! one upstream, and the rest must go on whoever calls.

use super::Config;

/// Descriptors that are needed whoever calls: listeners, runtimes, logs, token requests.
const BASE: usize = 64;
/// The most that the admin listener needs for every prober.
const ADMIN: usize = 64;
/// The most callers at once that are told that there is no place.
const REFUSALS: usize = 256;

impl Config {
    /// Fits every bound on connections to so many descriptors, with a warning where one that was asked for has
    /// to be lower.
    pub fn fit(&mut self, descriptors: usize) {
        let rest = descriptors.saturating_sub(BASE.min(descriptors / 2));
        // Each may need one upstream, and an eighth is left for everything else.
        let most = (rest / 16 * 7).max(1);
        let asked = self.limits.connections;
        if asked > most {
            self.limits.connections = most;
            self.warnings.push(format!(
                "limits.connections is {most} and not {asked}: this process may open {descriptors} files, and half of \
                 them is for calls upstream; raise LimitNOFILE or ulimit -n"
            ));
        }
        self.limits.refusals = (rest / 32).clamp(1, REFUSALS);
        self.admin.connections = (rest / 32).clamp(4, ADMIN);
        let workers = if self.server.workers == 0 {
            4
        } else {
            self.server.workers
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
    fn callers_leave_as_many_descriptors_as_they_take() {
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
    fn a_cap_that_cannot_be_had_is_cut_and_told() {
        let config = fitted("", 20_000);
        assert_eq!((config.limits.connections, config.warnings.len()), (8192, 0));
        let config = fitted("", 256);
        assert_eq!(config.limits.connections, 84);
        let [warning] = &config.warnings[..] else {
            panic!("{:?}", config.warnings);
        };
        for word in ["84", "8192", "256", "LimitNOFILE"] {
            assert!(warning.contains(word), "{warning}");
        }
        let config = fitted("[limits]\nconnections = 50", 256);
        assert_eq!((config.limits.connections, config.warnings.len()), (50, 0));
    }
}
