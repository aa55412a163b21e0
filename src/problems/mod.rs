//! The catalogue of everything that bondgate can report: code, cause, fix and explanation, each sentence written once.
//!
//! The check, the log, the status, the responses, `bondgate explain` and the table in TROUBLESHOOTING.md show a problem in
//! the same words. A file here holds the problems of one area: a function for each, which takes the values that cause and
//! fix name, and returns the [`Problem`].

mod entry;

pub mod admin;
pub mod api;
pub mod configuration;
pub mod files;
pub mod network;
pub mod outbound_proxy;
pub mod request;
pub mod spool;
pub mod tls;
pub mod token;

pub use self::entry::{Area, Entry, Problem, Severity};

/// All entries, in the order of a check.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    let areas = [
        configuration::ENTRIES,
        files::ENTRIES,
        network::ENTRIES,
        outbound_proxy::ENTRIES,
        tls::ENTRIES,
        token::ENTRIES,
        api::ENTRIES,
        request::ENTRIES,
        admin::ENTRIES,
        spool::ENTRIES,
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

    #[test]
    fn a_problem_hides_only_problems_that_exist() {
        for entry in all() {
            for hidden in entry.hides {
                assert!(find(hidden).is_some(), "{} hides {hidden}", entry.code);
            }
        }
    }
}
