//! What one configuration says otherwise than another, in the words of the file.

use std::collections::BTreeMap;

use crate::config::{ListenAddress, Listener, Setting};

/// Keys that are read once, at the start; a section ends in a dot. Listeners are judged by themselves.
const FIXED: &[&str] = &[
    "server.workers",
    "server.sandbox",
    "limits.",
    "log.format",
    "log.file",
    "spool.",
];

/// How many keys one log line names.
const NAMED: usize = 12;

/// The keys that were added, removed or have another value.
pub(super) fn changed(before: &[Setting], now: &[Setting]) -> Vec<String> {
    let map = |settings: &[Setting]| -> BTreeMap<String, String> {
        let pairs = settings
            .iter()
            .map(|setting| (setting.key.to_string(), setting.value.clone()));
        pairs.collect()
    };
    let (before, now) = (map(before), map(now));
    let mut keys: Vec<_> = now.keys().chain(before.keys()).collect();
    keys.sort();
    keys.dedup();
    let differs = |key: &&String| before.get(*key) != now.get(*key);
    keys.into_iter().filter(differs).cloned().collect()
}

/// Whether a key takes a restart.
pub(super) fn is_fixed(key: &str) -> bool {
    FIXED.iter().any(|fixed| {
        if fixed.ends_with('.') {
            key.starts_with(fixed)
        } else {
            key == *fixed
        }
    })
}

/// For each place that is listened on, the listener of a configuration that has its address, and those that
/// have no place. Ports that the system picks are told apart by their order.
pub(super) fn matched(places: &[&ListenAddress], listeners: &[Listener]) -> (Vec<Option<usize>>, Vec<usize>) {
    let mut left: Vec<usize> = (0..listeners.len()).collect();
    let found = places.iter().map(|place| {
        let at = left.iter().position(|at| listeners[*at].address == **place)?;
        Some(left.remove(at))
    });
    let found = found.collect();
    (found, left)
}

/// A list for one log line.
pub(super) fn named(keys: &[String]) -> String {
    match keys.len().checked_sub(NAMED) {
        None | Some(0) => keys.join(", "),
        Some(more) => format!("{} and {more} more", keys[..NAMED].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const LEAST: &str = "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";

    fn config(more: &str) -> Config {
        Config::parse(&format!("{LEAST}{more}"), "f", []).unwrap()
    }

    #[test]
    fn keys_that_were_added_removed_or_set_otherwise_are_named() {
        let before = config("wait = \"1s\"\n[[listener]]\nhosts = [\"a\"]\n").settings;
        let now = config("scope = \"x\"\n[[listener]]\nhosts = [\"b\"]\nhealth = \"/h\"\n").settings;
        let keys = [
            "listener[0].health",
            "listener[0].hosts",
            "upstream.a.scope",
            "upstream.a.wait",
        ];
        assert_eq!(changed(&before, &now), keys);
        assert!(changed(&now, &now).is_empty());
    }

    #[test]
    fn every_key_of_a_section_that_is_read_once_takes_a_restart() {
        for key in ["limits.head", "server.workers", "spool.directory", "log.file"] {
            assert!(is_fixed(key), "{key}");
        }
        for key in ["log.level", "server.drain", "server.watch", "upstream.limits.url"] {
            assert!(!is_fixed(key), "{key}");
        }
    }

    #[test]
    fn listeners_are_found_by_their_address_and_by_their_order_where_that_says_nothing() {
        let [a, b, any]: [ListenAddress; 3] =
            ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:0"].map(|address| address.parse().unwrap());
        let listener = |address: &str| format!("[[listener]]\naddress = \"{address}\"\n");
        let listeners = config(
            &["127.0.0.1:0", "127.0.0.1:2", "127.0.0.1:3"]
                .map(listener)
                .concat(),
        )
        .listeners;
        let found = matched(&[&a, &b, &any, &any], &listeners);
        assert_eq!(found, (vec![None, Some(1), Some(0), None], vec![2]));
    }

    #[test]
    fn a_long_list_is_cut() {
        let keys: Vec<_> = (0..14).map(|number| number.to_string()).collect();
        assert!(named(&keys).ends_with("11 and 2 more"));
        assert_eq!(named(&keys[..2]), "0, 1");
    }
}
