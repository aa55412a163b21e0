//! Rules that hold between upstreams, listeners and the spool.

use crate::config::listener::Listener;
use crate::config::root::Config;
use crate::config::source::{KeyPath, Report};
use crate::config::upstream::Upstream;
use crate::problems::configuration;

pub(super) fn validate(config: &Config, report: &mut Report) {
    // A wrong address has the default one as a stand-in.
    let mut addresses = Vec::new();
    if !report.is_corrected(&"admin.address".into()) {
        addresses.push(&config.admin.address);
    }
    for (at, listener) in config.listeners.iter().enumerate() {
        let (table, address) = (KeyPath::listener(at), &listener.address);
        let key = table.key("address");
        if !report.is_corrected(&key) {
            if let Some(other) = addresses.iter().find(|other| other.collides_with(address)) {
                report.fault(&key, configuration::listeners_collide(address, other));
            }
            addresses.push(address);
        }
        for upstream in config
            .upstreams
            .iter()
            .filter(|upstream| upstream.name == listener.upstream)
        {
            validate_served(&table, listener, upstream, report);
        }
    }
    for upstream in &config.upstreams {
        for (key, problem) in addresses.iter().flat_map(|address| upstream.loops(address)) {
            report.fault(&key, problem);
        }
    }
    let consuming = config.upstreams.iter().find(|upstream| upstream.rules.consume());
    match (&config.spool.directory, consuming) {
        (None, Some(upstream)) => {
            let problem = configuration::spool_in_memory(&upstream.name);
            report.warn(&"spool.directory".into(), problem);
        }
        (Some(directory), Some(upstream)) if !config.spool.persistent => {
            let problem = configuration::spool_not_persistent(directory.display(), &upstream.name);
            report.warn(&"spool.persistent".into(), problem);
        }
        _ => {}
    }
}

/// Rules for a listener and the upstream that it serves.
fn validate_served(table: &KeyPath, listener: &Listener, upstream: &Upstream, report: &mut Report) {
    let rules = upstream.rules.named();
    if let Some(health) = &listener.health
        && rules.iter().any(|rule| rule.path.matches(health))
    {
        let name = &upstream.name;
        let conflict = format!("{health:?} is a path of the API, by a rule of upstream {name}");
        let problem = configuration::keys_conflict(conflict, "choose another");
        report.fault(&table.key("health"), problem);
    }
    if !listener.address.is_local() && listener.allow.is_some() && listener.lets_pages_pull(upstream) {
        report.warn(&table.key("allow"), configuration::pages_may_pull());
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError};

    const LEAST: &str = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, "bondgate.toml", [])
    }

    #[test]
    fn a_plain_listener_for_other_machines_that_checks_networks_alone_causes_a_warning() {
        let warned = |listener: &str| {
            let text = format!("{LEAST}[[listener]]\nallow = [\"10.0.0.0/8\"]\n{listener}\n");
            let warnings = read(&text).unwrap().warnings;
            warnings
                .iter()
                .any(|warning| warning.problem.code() == "pages-may-pull")
        };
        assert!(warned("address = \"10.0.0.1:8080\""));
        for listener in [
            "address = \"localhost:8080\"",
            "address = \"10.0.0.1:8080\"\nrequire_header = \"X-Bondgate\"",
            "address = \"10.0.0.1:8080\"\nkeys = { file = \"/k\" }",
        ] {
            assert!(!warned(listener), "{listener}");
        }
    }

    /// The key that is warned of, if a listener for other machines lacks `hosts`.
    fn without_hosts(text: &str) -> Option<String> {
        let config = read(&format!("{LEAST}{text}\n")).unwrap();
        let found = config.warnings.into_iter();
        let mut found = found.filter(|warning| warning.problem.code() == "listener-without-hosts");
        found.next().map(|warning| warning.key.to_string())
    }

    #[test]
    fn a_spool_that_does_not_outlive_its_pod_causes_a_warning_if_messages_are_pulled() {
        let warned = |upstream: &str, spool: &str| {
            let config = read(&format!("{LEAST}{upstream}\n[spool]\n{spool}\n")).unwrap();
            let mut spool = config.warnings.into_iter();
            let warning = spool.find(|warning| warning.problem.code().starts_with("spool-"));
            warning.map(|warning| warning.to_string())
        };
        let found = warned("", "directory = \"/spool\"\npersistent = false").unwrap();
        for part in ["bondgate.toml:8: spool.persistent: ", "from cisco", "has /spool"] {
            assert!(found.contains(part), "{found}");
        }
        assert_eq!(warned("", "directory = \"/spool\"\npersistent = true"), None);
        let pushing = "rules = [ { methods = [\"POST\"], path = \"/push\" } ]";
        assert_eq!(
            warned(pushing, "directory = \"/spool\"\npersistent = false"),
            None
        );
        // Without a directory, nothing is persistent.
        let found = warned("", "persistent = false").unwrap();
        assert!(found.contains("spool.directory: is not set"), "{found}");
    }

    #[test]
    fn a_listener_for_other_machines_without_hosts_causes_a_warning() {
        let open = "allow = [\"10.0.0.0/8\"]\naddress = \"10.0.0.1:8080\"";
        assert_eq!(
            without_hosts(&format!("[[listener]]\n{open}")).as_deref(),
            Some("listener[0].hosts")
        );
        assert_eq!(
            without_hosts(&format!("[admin]\n{open}")).as_deref(),
            Some("admin.hosts")
        );
        for text in [
            format!("[[listener]]\n{open}\nhosts = [\"a\"]"),
            "[[listener]]\naddress = \"localhost:8080\"".to_owned(),
        ] {
            assert_eq!(without_hosts(&text), None, "{text}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_needs_no_hosts() {
        assert_eq!(without_hosts("[[listener]]\naddress = \"unix:/s\""), None);
    }

    #[test]
    fn listeners_with_a_common_address_are_a_fault() {
        let faults_of = |one: &str, other: &str| {
            let listener = |address: &str| {
                format!(
                    "[[listener]]\naddress = \"{address}\"\nrequire_header = \"X-B\"\nallow = [\"10.0.0.0/8\"]\n"
                )
            };
            let text = format!("{LEAST}{}{}", listener(one), listener(other));
            read(&text).map_or_else(|error| error.to_string(), |_| String::new())
        };
        for (one, other) in [
            ("localhost:8080", "localhost:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "localhost:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("10.0.0.1:8080", "[::]:8080"),
            ("localhost:9180", "127.0.0.1:8080"),
        ] {
            let faults = faults_of(one, other);
            assert!(
                faults.contains("give each listener (and [admin]) its own"),
                "{one} {other}: {faults}"
            );
        }
        for (one, other) in [
            ("localhost:8080", "localhost:8081"),
            ("127.0.0.1:8080", "[::1]:8080"),
            ("0.0.0.0:8080", "[::1]:8080"),
            ("127.0.0.1:0", "127.0.0.1:0"),
        ] {
            assert_eq!(faults_of(one, other), "", "{one} {other}");
        }
    }

    #[test]
    fn an_upstream_at_the_address_of_a_listener_is_a_loop() {
        let with = |url: &str, listen: &str| {
            read(&format!(
                "{LEAST}url = \"{url}\"\n[[listener]]\naddress = \"{listen}\"\nallow = [\"10.0.0.0/8\"]\n"
            ))
        };
        for (url, listen) in [
            ("https://localhost:8443", "localhost:8443"),
            ("https://127.0.0.1:8443/base", "localhost:8443"),
            ("https://[::1]:8443", "[::1]:8443"),
            ("https://localhost", "127.0.0.1:443"),
            ("https://127.0.0.1:8443", "0.0.0.0:8443"),
            ("https://10.0.0.1:8443", "10.0.0.1:8443"),
            ("https://[::ffff:10.0.0.1]:8443", "10.0.0.1:8443"),
            ("https://127.0.0.1:9180", "localhost:8443"),
            ("https://LOCALHOST.:8443", "localhost:8443"),
            ("https://0.0.0.0:8443", "localhost:8443"),
            ("https://[::]:8443", "0.0.0.0:8443"),
        ] {
            let faults = with(url, listen).unwrap_err().to_string();
            assert!(
                faults.contains("cisco.url: leads back to bondgate itself"),
                "{faults}"
            );
            assert!(faults.starts_with("bondgate.toml:5: "), "{faults}");
        }
        for (url, listen) in [
            ("https://localhost:8444", "localhost:8443"),
            ("https://127.0.0.2:8443", "localhost:8443"),
            ("https://10.0.0.2:8443", "10.0.0.1:8443"),
            ("https://stage.sbnprd.xylem.cisco.com:8443", "localhost:8443"),
        ] {
            assert!(with(url, listen).is_ok(), "{url} {listen}");
        }
    }

    #[test]
    fn an_unused_proxy_of_the_environment_causes_a_warning_without_its_value() {
        let warned = |proxy: &str, name: &str, value: &str| {
            let text = format!("{LEAST}{proxy}\n");
            let config = Config::parse(&text, "f", [(name.to_owned(), value.to_owned())]).unwrap();
            config.warnings.iter().map(ToString::to_string).any(|warning| {
                assert!(!warning.contains("hunter2"), "{warning}");
                warning.contains(name) && warning.contains("proxy = \"environment\"")
            })
        };
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            assert!(warned("", name, "http://user:hunter2@proxy.corp:3128"), "{name}");
            assert!(!warned("proxy = \"environment\"", name, "http://proxy.corp:3128"));
            assert!(!warned(
                "proxy = \"http://proxy.corp:3128\"",
                name,
                "http://proxy.corp:3128"
            ));
            assert!(!warned("", name, ""));
        }
    }

    #[test]
    fn a_health_path_is_not_a_path_of_the_api() {
        let read = |rules: &str, health: &str| {
            read(&format!("{LEAST}{rules}\n[[listener]]\nhealth = \"{health}\"\n"))
        };
        assert!(read("", "/healthz").is_ok());
        assert!(read("rules = \"any\"", "/healthz").is_ok());
        let faults = read("", "/sb-partner-oauth-proxy-api/rest/v1/pull/call").unwrap_err();
        assert!(
            faults
                .to_string()
                .starts_with("bondgate.toml:7: listener[0].health"),
            "{faults}"
        );
        let below = "rules = [{ methods = [\"GET\"], path = \"/api/*\" }]";
        assert!(read(below, "/api/healthz").is_err());
        assert!(read(below, "/healthz").is_ok());
        assert!(read(below, "/a/../healthz").is_err());
    }
}
