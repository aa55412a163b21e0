//! Rules for one upstream.

use http::Method;

use crate::config::outbound_proxy::OutboundProxy;
use crate::config::source::{KeyPath, Report};
use crate::config::upstream::Upstream;

pub(super) fn validate(upstream: &Upstream, unused_proxy: Option<&str>, report: &mut Report) {
    let table = KeyPath::upstream(&upstream.name);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !upstream.name.bytes().all(is_plain) {
        report.fault(
            &table,
            "has a name with other characters than letters, digits, - and _",
        );
    }
    for (key, endpoint) in upstream
        .endpoints()
        .into_iter()
        .filter(|(_, endpoint)| !endpoint.is_https())
    {
        if !upstream.unsafe_plain_http {
            let what = "is plain http, which would show the credentials to the network; write https";
            report.fault(&table.key(key), what);
        } else if !endpoint.is_loopback() {
            let what = "is plain http to another machine; unsafe_plain_http allows loopback addresses only";
            report.fault(&table.key(key), what);
        }
    }
    for (at, rule) in upstream.rules.named().iter().enumerate() {
        if rule.consuming && rule.methods.contains(&Method::HEAD) {
            let what = "has HEAD, which would consume a message without showing it; leave HEAD out";
            report.fault(&table.key("rules").item(at).key("methods"), what);
        }
    }
    if upstream.url.query().is_some() {
        let what = "has a query; leave it out: the caller's path and query are appended to it";
        report.fault(&table.key("url"), what);
    }
    if let (OutboundProxy::Direct, Some(variable)) = (&upstream.proxy, unused_proxy) {
        report.warnings.push(format!(
            "{}: is not set, and {variable} of the environment is not used; to use it, set proxy = \"environment\"",
            table.key("proxy")
        ));
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
}
