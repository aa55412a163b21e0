//! Rules for one upstream.

use http::Method;

use crate::config::outbound_proxy::OutboundProxy;
use crate::config::source::{KeyPath, Report};
use crate::config::upstream::Upstream;
use crate::problems::configuration;

pub(super) fn validate(upstream: &Upstream, unused_proxy: Option<&str>, report: &mut Report) {
    let table = KeyPath::upstream(&upstream.name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !upstream.name.bytes().all(is_plain) {
        let problem = configuration::value_wrong(
            "has a name with other characters than letters, digits, - and _",
            "rename it",
        );
        report.fault(&table, problem);
    }
    for (key, endpoint) in upstream
        .endpoints()
        .into_iter()
        .filter(|(_, endpoint)| !endpoint.is_https())
    {
        if !upstream.unsafe_plain_http {
            let danger = ", which would show the credentials to the network";
            report.fault(&table.key(key), configuration::plain_http(danger, "write https"));
        } else if !endpoint.is_loopback() {
            let remedy = "write https; unsafe_plain_http allows loopback addresses only";
            report.fault(
                &table.key(key),
                configuration::plain_http(" to another machine", remedy),
            );
        }
    }
    for (at, rule) in upstream.rules.named().iter().enumerate() {
        if rule.consuming && rule.methods.contains(&Method::HEAD) {
            let conflict = "has HEAD, which would consume a message without showing it";
            let problem = configuration::keys_conflict(conflict, "leave HEAD out");
            report.fault(&table.key("rules").item(at).key("methods"), problem);
        }
    }
    if let Some(path) = &upstream.check_path {
        let path_alone = path.split('?').next().unwrap_or_default();
        let mut rules = upstream.rules.named().iter();
        if rules.any(|rule| rule.consuming && rule.path.matches(path_alone)) {
            let conflict = "is a consuming route: the check would take a message off a queue";
            let problem = configuration::keys_conflict(conflict, "name another path");
            report.fault(&table.key("check_path"), problem);
        }
    }
    if upstream.url.query().is_some() {
        let form = "leave it out: the caller's path and query are appended to it";
        report.fault(&table.key("url"), configuration::value_wrong("has a query", form));
    }
    if let (OutboundProxy::Direct, Some(variable)) = (&upstream.proxy, unused_proxy) {
        let problem = configuration::proxy_of_environment_unused(variable);
        report.warn(&table.key("proxy"), problem);
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_consuming_rule_has_no_head() {
        let read = |methods: &str| {
            let rules = format!("rules = [{{ methods = {methods}, path = \"/a\", consuming = true }}]");
            let upstream =
                "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = \"s\"";
            Config::parse(&format!("{upstream}\n{rules}\n"), "f", [])
        };
        assert!(read("[\"GET\"]").is_ok());
        let fault = read("[\"GET\", \"HEAD\"]").unwrap_err().to_string();
        assert!(
            fault.starts_with("f:5: upstream.a.rules[0].methods: has HEAD"),
            "{fault}"
        );
    }

    #[test]
    fn the_check_takes_no_message_off_a_queue() {
        let read = |path: &str| {
            let text = format!(
                "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"x\"\nclient_secret = {{ file = \"/s\" }}\n\
                 check_path = \"{path}\"\n"
            );
            Config::parse(&text, "f", [])
        };
        assert!(read("/status").is_ok());
        for path in [
            "/sb-partner-oauth-proxy-api/rest/v1/pull/call",
            "/sb-partner-oauth-proxy-api/rest/v1/pull/call?a=b",
            "status",
        ] {
            let faults = read(path).unwrap_err().to_string();
            assert!(faults.contains("check_path"), "{faults}");
        }
    }
}
