//! Rules for the log.

use crate::config::log::Log;
use crate::config::source::{KeyPath, Report};
use crate::problems::configuration;

pub(super) fn validate(log: &Log, report: &mut Report) {
    let key = KeyPath::from("log.rotate");
    let Some(rotation) = &log.rotate else { return };
    // What was wrong and left out is reported already.
    let is_corrected = |other: &KeyPath| other.is_within(&key) || *other == "log.file".into();
    if report.is_broken || report.corrected.iter().any(is_corrected) {
        return;
    }
    if log.file.is_none() {
        let conflict = "has no file to rotate: the log goes to standard error";
        let problem = configuration::keys_conflict(conflict, "set log.file, or remove it");
        report.fault(&key, problem);
    }
    if rotation.size.is_none() && rotation.age.is_none() {
        let form = "write one of them or both, like { size = \"20MiB\", age = \"24h\" }";
        let problem = configuration::value_wrong("has neither size nor age", form);
        report.fault(&key, problem);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::{Config, ConfigError, LogRotation};

    const FILE: &str = "file = \"/b.log\"\n";

    fn read(log: &str, set: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let text = format!(
            "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\nclient_secret = {{ file = \"/s\" }}\n\
             [log]\n{log}\n"
        );
        let set = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(&text, "f", set)
    }

    fn rotation(log: &str, set: &[(&str, &str)]) -> Option<LogRotation> {
        read(&format!("{FILE}{log}"), set).unwrap().log.rotate
    }

    #[test]
    fn size_and_age_may_each_be_left_out_and_ten_files_are_kept() {
        assert!(rotation("", &[]).is_none());
        let of_size = rotation("rotate = { size = \"20MiB\" }", &[]).unwrap();
        assert_eq!(
            (of_size.size, of_size.age, of_size.keep),
            (Some(20 << 20), None, 10)
        );
        let of_age = rotation("rotate = { age = \"24h\", keep = 3 }", &[]).unwrap();
        let day = Duration::from_secs(24 * 3600);
        assert_eq!((of_age.size, of_age.age, of_age.keep), (None, Some(day), 3));
    }

    #[test]
    fn the_environment_sets_the_table_or_a_key_of_it() {
        let table = [("BONDGATE__LOG__ROTATE", "{ size = '1KiB' }")];
        let set = rotation("", &table).unwrap();
        assert_eq!((set.size, set.keep), (Some(1024), 10));
        let keys = [
            ("BONDGATE__LOG__ROTATE__AGE", "2h"),
            ("BONDGATE__LOG__ROTATE__KEEP", "4"),
        ];
        let set = rotation("rotate = { age = \"1h\" }", &keys).unwrap();
        assert_eq!((set.age, set.keep), (Some(Duration::from_secs(7200)), 4));
    }

    #[test]
    fn the_values_in_force_are_listed_with_their_origin() {
        let config = read(&format!("{FILE}rotate = {{ size = \"1KiB\" }}"), &[]).unwrap();
        let settings = config.settings.iter();
        let shown: Vec<_> = settings
            .filter(|setting| setting.key.to_string().starts_with("log.rotate"))
            .map(|setting| format!("{} = {} ({})", setting.key, setting.value, setting.origin))
            .collect();
        assert_eq!(
            shown,
            [
                "log.rotate.keep = 10 (default)",
                "log.rotate.size = \"1KiB\" (f:7)"
            ]
        );
    }

    #[test]
    fn one_mistake_of_the_rotation_is_one_fault_with_its_line() {
        for (log, fault) in [
            (
                "rotate = { size = \"1MiB\" }",
                "f:6: log.rotate: has no file to rotate: ",
            ),
            (
                "file = 1\nrotate = { size = \"1MiB\" }",
                "f:6: log.file: is a whole number; ",
            ),
            (
                "file = \"/b.log\"\nrotate = { keep = 3 }",
                "f:7: log.rotate: has neither size nor age; ",
            ),
            (
                "file = \"/b.log\"\nrotate = {}",
                "f:7: log.rotate: has neither size nor age; ",
            ),
            (
                "file = \"/b.log\"\nrotate = { size = \"big\" }",
                "f:7: log.rotate.size: \"big\" is not a size; ",
            ),
            (
                "file = \"/b.log\"\nrotate = { age = \"1day\" }",
                "f:7: log.rotate.age: \"1day\" is not a duration; ",
            ),
            (
                "file = \"/b.log\"\nrotate = { age = \"0s\" }",
                "f:7: log.rotate.age: is 0, which ",
            ),
            (
                "file = \"/b.log\"\nrotate = { age = \"1h\", keep = 0 }",
                "f:7: log.rotate.keep: is 0, which ",
            ),
            (
                "file = \"/b.log\"\nrotate = { age = \"1h\", keep = \"few\" }",
                "f:7: log.rotate.keep: is text; write a whole number, like 10 ",
            ),
            (
                "file = \"/b.log\"\nrotate = \"20MiB\"",
                "f:7: log.rotate: is text; write a table, as [section] or { key = value } ",
            ),
            (
                "file = \"/b.log\"\nrotate = { sise = \"1MiB\" }",
                "f:7: log.rotate.sise: is not a key here; did you mean \"size\"? ",
            ),
        ] {
            let error = read(log, &[]).unwrap_err();
            let found: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
            assert!(
                found.len() == 1 && found[0].starts_with(fault),
                "{fault}: {found:?}"
            );
        }
    }
}
