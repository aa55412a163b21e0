//! What a daemon of a configuration needs from its sandbox.

use std::path::Path;

use crate::config::{Config, Endpoint, Upstream};
use crate::platform::sandbox::{Needs, Sandbox};

/// Enters the sandbox; `file` is where the configuration was read from. Called when every socket is bound, and before
/// another thread runs.
#[must_use]
pub fn enter_sandbox(config: &Config, file: Option<&Path>) -> Sandbox {
    if !config.server.sandbox {
        tracing::warn!("not sandboxed: server.sandbox is false");
        return Sandbox::default();
    }
    if !Sandbox::IS_SUPPORTED {
        tracing::info!("not sandboxed: this system has no sandbox that bondgate supports");
        return Sandbox::default();
    }
    let sandbox = Sandbox::enter(&all_needs(config, file));
    for warning in &sandbox.misfits {
        tracing::warn!(warning, "sandbox does not fit the configured files");
    }
    for reason in &sandbox.missing {
        tracing::warn!(
            reason,
            "a part of the sandbox is missing, the daemon runs without it"
        );
    }
    if !sandbox.restrictions.is_empty() {
        tracing::info!(restrictions = sandbox.restrictions.join(", "), "sandboxed");
    }
    sandbox
}

/// The same as [`sandbox_needs`], with the configuration file.
pub(super) fn all_needs(config: &Config, file: Option<&Path>) -> Needs {
    let mut needs = sandbox_needs(config);
    let file = file.map(|file| ("the configuration".to_owned(), file.to_owned()));
    needs.files.extend(file);
    needs
}

/// The files that a running daemon reads and writes, and the ports that it connects to.
pub(super) fn sandbox_needs(config: &Config) -> Needs {
    let files = config
        .files()
        .into_iter()
        .map(|file| (file.key.to_string(), file.path));
    let ports = config.upstreams.iter().flat_map(|upstream| {
        let key = format!("upstream.{}", upstream.name);
        [&upstream.url, &upstream.token_url].map(|endpoint| (key.clone(), port(upstream, endpoint)))
    });
    Needs {
        files: files.collect(),
        writable: config.spool.directory.clone(),
        log: config.log.file.clone(),
        rotates_log: config.log.rotate.is_some(),
        ports: ports.collect(),
    }
}

/// The port for calls to an endpoint; none if the proxy's URL cannot be read yet.
fn port(upstream: &Upstream, endpoint: &Endpoint) -> Option<u16> {
    let route = upstream.proxy.route(endpoint).ok()?;
    Some(route.map_or(endpoint.port(), |route| route.uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_needs_its_files_and_the_ports_of_its_upstreams_and_proxies() {
        let text = "[upstream.a]\npreset = \"none\"\nurl = \"https://api.example:8443\"\ntoken_url = \"https://id.example/token\"\n\
                    client_id = \"id\"\nclient_secret = { file = \"/run/secret\" }\nrules = \"any\"\n\
                    [upstream.b]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n\
                    client_secret = { file = \"/run/other\" }\nproxy = \"http://proxy.example:3128\"\n\
                    [[listener]]\nupstream = \"a\"\n[spool]\ndirectory = \"/var/spool\"\n[log]\nfile = \"/var/log/b\"\n";
        let config = Config::parse(text, "bondgate.toml", []).unwrap();
        let needs = sandbox_needs(&config);
        let port = |key: &str, port| (format!("upstream.{key}"), Some(port));
        assert_eq!(
            needs.ports,
            [port("a", 8443), port("a", 443), port("b", 3128), port("b", 3128)]
        );
        let keys: Vec<_> = needs.files.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["upstream.a.client_secret", "upstream.b.client_secret"]);
        assert_eq!(needs.writable.as_deref(), Some(Path::new("/var/spool")));
        assert_eq!(needs.log.as_deref(), Some(Path::new("/var/log/b")));
        assert!(!needs.rotates_log);
        let text = format!("{text}rotate = {{ size = \"1MiB\" }}\n");
        assert!(sandbox_needs(&Config::parse(&text, "bondgate.toml", []).unwrap()).rotates_log);
    }

    #[test]
    fn without_a_sandbox_nothing_is_denied() {
        let text = "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n\
                    client_secret = { file = \"/root/anything\" }\n[server]\nsandbox = false\n";
        let config = Config::parse(text, "bondgate.toml", []).unwrap();
        let sandbox = enter_sandbox(&config, None);
        assert!(sandbox.denied(&sandbox_needs(&config)).is_empty());
        assert!(
            std::fs::read("/proc/1/status").is_ok(),
            "and nothing is restricted"
        );
    }
}
