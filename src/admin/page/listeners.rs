//! The section of the listeners and their access control.

use askama::Template;

use super::now::Now;

#[derive(Template)]
#[template(path = "listeners.html", config = "src/admin/page/askama.toml")]
pub(super) struct Listeners {
    listeners: Vec<Row>,
}

struct Row {
    /// The bound addresses.
    addresses: String,
    /// The address in the configuration, if it is another one.
    configured: Option<String>,
    upstream: String,
    transport: &'static str,
    access: String,
}

pub(super) fn section(now: &Now<'_>) -> Listeners {
    let row = |listener: &crate::admin::ListenerFacts| {
        let local = listener.is_local.then(|| "this machine only".to_owned());
        let access: Vec<_> = local.into_iter().chain(listener.access.iter().cloned()).collect();
        Row {
            configured: (listener.bound != [&*listener.configured]).then(|| listener.configured.clone()),
            addresses: listener.bound.join(", "),
            upstream: listener.upstream.clone(),
            transport: if listener.is_tls { "TLS" } else { "plain HTTP" },
            access: if access.is_empty() {
                "none".to_owned()
            } else {
                access.join(", ")
            },
        }
    };
    Listeners {
        listeners: now.facts.listeners.iter().map(row).collect(),
    }
}
