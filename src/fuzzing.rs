//! What the fuzzers call (`tests/fuzz`), each with bytes of any kind: they fail where something does not
//! hold that always should. In no build but theirs, and in tests, which replay what was found.

pub use crate::config::fuzzed::file;
pub use crate::proxy::fuzzed::{fields, path};
pub use crate::server::fuzzed::head;
pub use crate::token::fuzzed::reply;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Runs a target on each file of its corpus.
    fn replay(target: &str, run: fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz/corpus")
            .join(target);
        let mut count = 0;
        for file in std::fs::read_dir(&corpus).unwrap() {
            let path = file.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            let held = std::panic::catch_unwind(|| run(&data));
            assert!(held.is_ok(), "{} does not hold", path.display());
            count += 1;
        }
        assert!(count >= 10, "{} has {count} files", corpus.display());
    }

    #[test]
    fn every_path_of_the_corpus_is_sent_as_it_was_judged() {
        replay("path", super::path);
    }

    #[test]
    fn every_head_of_the_corpus_is_judged_alike_however_it_comes() {
        replay("head", super::head);
    }

    #[test]
    fn no_fields_of_the_corpus_go_through_that_should_not() {
        replay("fields", super::fields);
    }

    #[test]
    fn every_reply_of_the_corpus_is_a_sound_grant_or_a_failure() {
        replay("reply", super::reply);
    }

    #[test]
    fn every_file_of_the_corpus_is_a_configuration_or_has_faults() {
        replay("file", super::file);
    }
}
