//! Renamed configuration keys: the old name is accepted for one release, with a warning.

use super::document::Document;
use super::fault::Origin;
use super::key_path::{KeyPath, Segment};
use super::report::Report;
use crate::problems::configuration;

/// The old and the new path of each key that was renamed since the last release; `*` stands for the name of an upstream, or
/// for the number of a list's item. A row is removed after the release that has it. None was renamed since the first release.
pub(in crate::config) const RENAMED: &[(&str, &str)] = &[];

/// Gives each key under an old name, in the file or from a variable, its new name.
pub(in crate::config) fn rename_keys(report: &mut Report, renamed: &[(&str, &str)]) {
    for (old, new) in renamed {
        for (old, stars) in occurrences(&report.document, old) {
            let new = with_stars(new, &stars);
            let origin = report.document.origin(&new);
            if report.document.get(&new).is_some() {
                let conflict = format!("is the old name of {new}, which is set too ({origin})");
                report.fault(
                    &old,
                    configuration::keys_conflict(conflict, "remove the one with the old name"),
                );
                report.document.remove(&old);
                continue;
            }
            let written = match report.document.origin(&old) {
                Origin::Environment(_) => new.variable(),
                _ => new.to_string(),
            };
            report.warn(&old, configuration::key_renamed(&new, written));
            report.document.rename(&old, &new);
        }
    }
}

/// Each key that a path names, with what its stars stand for.
fn occurrences(document: &Document, path: &str) -> Vec<(KeyPath, Vec<Segment>)> {
    let mut found = vec![(KeyPath::default(), Vec::new())];
    for part in path.split('.') {
        let next = found
            .into_iter()
            .flat_map(|(path, stars): (KeyPath, Vec<Segment>)| {
                if part != "*" {
                    return vec![(path.key(part), stars)];
                }
                let tables = document.tables(&path).into_iter();
                let starred = tables.map(|table| {
                    let star = table.segments().last().cloned();
                    (table, stars.iter().cloned().chain(star).collect())
                });
                starred.collect()
            });
        found = next.collect();
    }
    found.retain(|(key, _)| document.get(key).is_some());
    found
}

/// The key that a path names where its stars stand for these.
fn with_stars(path: &str, stars: &[Segment]) -> KeyPath {
    let mut stars = stars.iter();
    path.split('.').fold(KeyPath::default(), |key, part| match part {
        "*" => key.with(stars.next().cloned()),
        part => key.key(part),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{decode, overlay};
    use super::*;
    use crate::config::Config;

    const TABLE: &[(&str, &str)] = &[
        ("limits.header", "limits.head"),
        ("server.retained", "spool.keep"),
        ("upstream.*.limits", "upstream.*.timeout"),
        ("listener.*.networks", "listener.*.allow"),
    ];
    const LEAST: &str = "[upstream.cisco]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = { file = \"/s\" }\n";

    fn read(more: &str, variables: &[(&str, &str)]) -> (Report, Option<Config>) {
        let mut report = Report::new(&format!("{LEAST}{more}"), "f");
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        overlay(&mut report, &variables.iter().map(pair).collect::<Vec<_>>());
        rename_keys(&mut report, TABLE);
        let config = decode(&mut report);
        (report, config)
    }

    #[test]
    fn an_old_name_sets_the_key_with_a_warning_that_names_both_and_the_line() {
        let (report, config) = read(
            "limits = { connect = \"3s\" }\n[limits]\nheader = \"16KiB\"\n[server]\nretained = \"1h\"\n[[listener]]\nnetworks = [\"10.0.0.0/8\"]\n",
            &[],
        );
        assert!(report.faults.is_empty(), "{}", report.faults[0]);
        let config = config.unwrap();
        assert_eq!(config.upstreams[0].timeout.connect.as_secs(), 3);
        assert_eq!(config.limits.head, 16 << 10);
        assert_eq!(config.spool.keep.as_secs(), 3600);
        assert_eq!(config.listeners[0].allow.as_ref().unwrap().len(), 1);
        let warnings: Vec<_> = report.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings[0],
            "f:7: limits.header: is the old name of limits.head; write limits.head: the next release no longer \
             accepts the old name [config-key-renamed]"
        );
        let starts = [
            "f:9: server.retained: is the old name of spool.keep",
            "f:5: upstream.cisco.limits: is the old name of upstream.cisco.timeout",
            "f:11: listener[0].networks: is the old name of listener[0].allow",
        ];
        for (warning, start) in warnings[1..].iter().zip(starts) {
            assert!(warning.starts_with(start), "{warning}");
        }
        assert_eq!(warnings.len(), 4);
    }

    #[test]
    fn the_settings_have_the_new_name_with_the_line_of_the_old_one() {
        let (report, _) = read(
            "limits = { connect = \"3s\" }\n",
            &[("BONDGATE__LIMITS__HEADER", "16KiB")],
        );
        let settings = report.settings();
        let shown = |key: &str| {
            let setting = settings.iter().find(|setting| setting.key.to_string() == key);
            setting.map(|setting| format!("{} {}", setting.value, setting.origin))
        };
        assert_eq!(shown("upstream.cisco.timeout.connect").unwrap(), "\"3s\" f:5");
        assert_eq!(
            shown("limits.head").unwrap(),
            "\"16KiB\" environment BONDGATE__LIMITS__HEADER"
        );
        assert_eq!(
            (shown("limits.header"), shown("upstream.cisco.limits.connect")),
            (None, None)
        );
    }

    #[test]
    fn a_variable_with_an_old_name_sets_the_key_with_a_warning_that_names_both_variables() {
        let (report, config) = read("", &[("BONDGATE__LIMITS__HEADER", "16KiB")]);
        assert_eq!(config.unwrap().limits.head, 16 << 10);
        let warning = report.warnings[0].to_string();
        assert!(
            warning.starts_with("environment BONDGATE__LIMITS__HEADER: limits.header: is the old name of limits.head; write BONDGATE__LIMITS__HEAD:"),
            "{warning}"
        );
    }

    #[test]
    fn both_names_at_once_are_a_fault_that_names_both_lines() {
        for (more, variables, expected) in [
            (
                "[limits]\nhead = \"8KiB\"\nheader = \"16KiB\"\n",
                &[][..],
                "f:7: limits.header: is the old name of limits.head, which is set too (f:6)",
            ),
            (
                "[limits]\nhead = \"8KiB\"\n",
                &[("BONDGATE__LIMITS__HEADER", "16KiB")],
                "environment BONDGATE__LIMITS__HEADER: limits.header: is the old name of limits.head, which is set too (f:6)",
            ),
        ] {
            let (report, _) = read(more, variables);
            let faults: Vec<_> = report.faults.iter().map(ToString::to_string).collect();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(faults[0].starts_with(expected), "{faults:?}");
            assert!(report.warnings.is_empty());
        }
    }

    #[test]
    fn a_wrong_value_under_an_old_name_is_a_fault_of_the_new_one_in_the_same_line() {
        let (report, _) = read("[limits]\nheader = \"much\"\n", &[]);
        assert!(
            report.faults[0].to_string().starts_with("f:6: limits.head: "),
            "{}",
            report.faults[0]
        );
    }

    #[test]
    fn each_row_of_the_table_has_two_names_with_the_same_stars() {
        for (old, new) in RENAMED {
            assert_ne!(old, new);
            assert_eq!(old.matches('*').count(), new.matches('*').count(), "{old}");
        }
    }
}
