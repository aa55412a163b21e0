//! Rules for one upstream.

use crate::config::outbound_proxy::OutboundProxy;
use crate::config::source::key_path::KeyPath;
use crate::config::source::report::Report;
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
    let timeout = &upstream.timeout;
    for (key, limit) in [
        ("connect", timeout.connect),
        ("head", timeout.head),
        ("idle", timeout.idle),
        ("pull", timeout.pull),
    ] {
        if limit.is_zero() {
            let key = table.key("timeout").key(key);
            report.fault(&key, "is 0, which allows nothing; leave it out for the default");
        }
    }
    if upstream.max_age.is_zero() {
        let what = "is 0, and no connection could be used; leave it out for the default, or write keep_alive = \"0s\" \
                    for a new connection for each request";
        report.fault(&table.key("max_age"), what);
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
