//! Which keys a reload applies, which need a restart, and which of them differ between two configurations.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{ListenAddress, Listener, Setting};

/// Keys that are read only at the start, or the beginnings of their names. Listeners are compared separately.
const FIXED: &[&str] = &[
    "server.workers",
    "server.sandbox",
    "limits.",
    "log.format",
    "log.file",
    "log.rotate",
    "spool.",
];

/// How many keys one log line names.
const MAX_NAMED: usize = 12;

/// The keys that were added or removed, or whose value changed.
pub(super) fn changed_keys(before: &[Setting], now: &[Setting]) -> Vec<String> {
    let values = |settings| -> BTreeMap<_, _> {
        let settings: &[Setting] = settings;
        settings
            .iter()
            .map(|setting| (&setting.key, &setting.value))
            .collect()
    };
    let (before, now) = (values(before), values(now));
    let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let changed = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    changed.map(ToString::to_string).collect()
}

/// Whether a change of this key needs a restart.
pub(super) fn is_fixed(key: &str) -> bool {
    FIXED.iter().any(|fixed| key.starts_with(fixed))
}

/// For each bound address the index of the listener that is configured with it, and the indices of the listeners
/// whose address is not bound. Listeners with the same address (a port that the system chooses) match in order.
pub(super) fn match_listeners(
    bound: &[&ListenAddress],
    listeners: &[Listener],
) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut unmatched: Vec<usize> = (0..listeners.len()).collect();
    let matched = bound.iter().map(|address| {
        let at = unmatched
            .iter()
            .position(|at| listeners[*at].address == **address)?;
        Some(unmatched.remove(at))
    });
    (matched.collect(), unmatched)
}

/// A list of keys for one log line.
pub(super) fn list(keys: &[String]) -> String {
    match keys.len().checked_sub(MAX_NAMED) {
        None | Some(0) => keys.join(", "),
        Some(more) => format!("{} and {more} more", keys[..MAX_NAMED].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MINIMAL: &str = "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";

    fn config(more: &str) -> Config {
        Config::parse(&format!("{MINIMAL}{more}"), "f", []).unwrap()
    }

    #[test]
    fn keys_that_were_added_removed_or_changed_are_named() {
        let before = config("wait = \"1s\"\n[[listener]]\nhosts = [\"a\"]\n").settings;
        let now = config("scope = \"x\"\n[[listener]]\nhosts = [\"b\"]\nhealth = \"/h\"\n").settings;
        let keys = [
            "listener[0].health",
            "listener[0].hosts",
            "upstream.a.scope",
            "upstream.a.wait",
        ];
        assert_eq!(changed_keys(&before, &now), keys);
        assert!(changed_keys(&now, &now).is_empty());
    }

    #[test]
    fn every_key_of_a_section_that_is_read_only_at_the_start_needs_a_restart() {
        for key in [
            "limits.head",
            "server.workers",
            "spool.directory",
            "log.file",
            "log.rotate.size",
        ] {
            assert!(is_fixed(key), "{key}");
        }
        for key in ["log.level", "server.drain", "server.watch", "upstream.limits.url"] {
            assert!(!is_fixed(key), "{key}");
        }
    }

    #[test]
    fn listeners_match_by_address_and_in_order_where_addresses_are_equal() {
        let [a, b, any]: [ListenAddress; 3] =
            ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:0"].map(|address| address.parse().unwrap());
        let listener = |address: &str| format!("[[listener]]\naddress = \"{address}\"\n");
        let listeners = config(
            &["127.0.0.1:0", "127.0.0.1:2", "127.0.0.1:3"]
                .map(listener)
                .concat(),
        )
        .listeners;
        let matched = match_listeners(&[&a, &b, &any, &any], &listeners);
        assert_eq!(matched, (vec![None, Some(1), Some(0), None], vec![2]));
    }

    #[test]
    fn a_long_list_is_cut() {
        let keys: Vec<_> = (0..14).map(|number| number.to_string()).collect();
        assert!(list(&keys).ends_with("11 and 2 more"));
        assert_eq!(list(&keys[..2]), "0, 1");
    }
}
