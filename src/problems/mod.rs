//! The catalogue of everything that bondgate can report: code, cause, fix and explanation, each sentence written once.
//!
//! The check, the log, the status, the responses, `bondgate explain` and the table in TROUBLESHOOTING.md show a problem in
//! the same words. A file here holds the problems of one area: a function for each, which takes the values that cause and
//! fix name, and returns the [`Problem`].

mod entry;
mod example;

pub mod admin;
pub mod api;
pub mod commands;
pub mod configuration;
pub mod files;
pub mod machine;
pub mod network;
pub mod outbound_proxy;
pub mod request;
pub mod spool;
pub mod tls;
pub mod token;

pub use self::entry::{Area, Entry, Problem, Severity, without_error_number};

/// All entries, in the order of a check.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    let areas = [
        configuration::ENTRIES,
        files::ENTRIES,
        machine::ENTRIES,
        network::ENTRIES,
        outbound_proxy::ENTRIES,
        tls::ENTRIES,
        token::ENTRIES,
        api::ENTRIES,
        request::ENTRIES,
        admin::ENTRIES,
        spool::ENTRIES,
        commands::ENTRIES,
    ];
    areas.into_iter().flatten().copied()
}

/// The entry of a code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Entry> {
    all().find(|entry| entry.code == code)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_code_is_in_words_and_occurs_once() {
        let mut codes = BTreeSet::new();
        for Entry { code, .. } in all() {
            let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(code.bytes().all(is_word), "{code}");
            assert!(codes.insert(code), "{code}");
        }
    }

    #[test]
    fn cause_and_fix_are_one_line_each_and_an_explanation_is_whole_sentences() {
        for entry in all() {
            for text in [entry.cause, entry.fix] {
                assert!(
                    !text.is_empty() && !text.ends_with('.') && !text.contains('\n'),
                    "{text}"
                );
            }
            assert!(entry.explanation.ends_with('.'), "{}", entry.explanation);
        }
    }

    #[cfg(unix)]
    /// TROUBLESHOOTING.md: its beginning, which is written by hand, and a table for each area.
    fn troubleshooting(file: &str) -> String {
        use std::fmt::Write as _;

        let beginning = file.split("\n## ").next().unwrap().trim_end();
        let mut text = format!("{beginning}\n");
        let mut area = None;
        for entry in all() {
            if area.replace(entry.area) != Some(entry.area) {
                let _ = write!(
                    text,
                    "\n## {}\n\n| code | cause | fix |\n|---|---|---|\n",
                    entry.area
                );
            }
            let cell = |text: &str| text.replace('|', "\\|").replace('<', "\\<");
            let [cause, mut fix] = entry.templates().map(|text| cell(&text));
            // These are others on Windows.
            for command in [
                "{closing}",
                "{conversion}",
                "{service}",
                "{SET_CLOCK}",
                "{NAME_SERVERS}",
                "{LOOK_UP}",
            ] {
                fix = fix.replace(command, &example::of(entry.code, command));
            }
            let _ = writeln!(text, "| `{}` | {cause} | {fix} |", entry.code);
        }
        text
    }

    #[cfg(unix)]
    #[test]
    fn the_troubleshooting_page_shows_the_catalogue() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/TROUBLESHOOTING.md");
        let file = std::fs::read_to_string(path).unwrap();
        let right = troubleshooting(&file);
        if std::env::var_os("UPDATE_TROUBLESHOOTING").is_some() {
            std::fs::write(path, right).unwrap();
            return;
        }
        assert!(
            file == right,
            "TROUBLESHOOTING.md must be as follows; UPDATE_TROUBLESHOOTING=1 cargo test --lib problems writes it\n{right}"
        );
    }

    #[test]
    fn a_problem_hides_only_problems_that_exist() {
        for entry in all() {
            for hidden in entry.hides {
                assert!(find(hidden).is_some(), "{} hides {hidden}", entry.code);
            }
        }
    }
}
