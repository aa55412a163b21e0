//! Secrets that are probably not meant as they are: with blanks or quotes around them, or copied from the documentation.

use std::collections::BTreeSet;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::secret::SecretSource;
use crate::platform::shell;
use crate::problems::{Problem, files};

/// The placeholders of bondgate's own documentation, in addition to `changeme` and `<…>`.
const OWN: [&str; 3] = [
    "0oaYOURCLIENTID",
    "demo-secret",
    "http://user:password@proxy.corp:3128",
];

const QUOTES: &str = "\"'`\u{2018}\u{2019}\u{201c}\u{201d}";

fn is_around(character: char) -> bool {
    character.is_whitespace() || QUOTES.contains(character)
}

/// Whether a secret is a placeholder, by its whole value, also in quotes.
pub(super) fn is_placeholder(secret: &SecretString) -> bool {
    let text = secret.expose_secret().trim_matches(is_around);
    let is_in_brackets = text.starts_with('<') && text.ends_with('>');
    is_in_brackets || text.eq_ignore_ascii_case("changeme") || OWN.contains(&text)
}

/// Whether a text begins or ends with a quote.
pub(super) fn is_in_quotes(text: &str) -> bool {
    let is_quote = |character: char| QUOTES.contains(character);
    text.starts_with(is_quote) || text.ends_with(is_quote)
}

/// Whether an editor or a terminal shows nothing for a character, or a blank that is not one: control and format
/// characters (Unicode's Cc and Cf), and blanks other than that of the keyboard.
fn is_invisible(character: char) -> bool {
    let is_format = matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    is_format || character.is_control() || character.is_whitespace() && character != ' '
}

impl SecretSource {
    /// The warning for a secret from this source that has blanks or quotes at its ends, or invisible characters. It shows
    /// nothing else of the secret.
    pub(crate) fn warn_of(&self, secret: &SecretString) -> Option<Problem> {
        let text = secret.expose_secret();
        let at_ends = |is_end: fn(char) -> bool| {
            let rest = text.trim_matches(is_end);
            let ends = text.split(rest).filter(|_| !rest.is_empty());
            self.remedy(ends.flat_map(str::chars), shell::trim_file)
        };
        if text.trim() != text {
            Some(files::secret_has_blanks(at_ends(char::is_whitespace)))
        } else if is_in_quotes(text) {
            Some(files::secret_in_quotes(at_ends(is_around)))
        } else if text.contains(['\r', '\n']) {
            Some(files::secret_has_lines())
        } else if text.contains(is_invisible) {
            let found: BTreeSet<_> = text
                .chars()
                .filter(|character| is_invisible(*character))
                .collect();
            let names: Vec<_> = found
                .iter()
                .map(|found| format!("U+{:04X}", u32::from(*found)))
                .collect();
            let remedy = self.remedy(found, shell::remove_from_file);
            Some(files::secret_has_invisible_characters(names.join(", "), remedy))
        } else {
            None
        }
    }

    /// Where the secret is, for people.
    pub(super) fn place(&self) -> String {
        match (self, self.path()) {
            (_, Some(path)) => path.display().to_string(),
            (Self::Environment(name), _) => format!("the environment variable {name}"),
            _ => "the configuration".to_owned(),
        }
    }

    /// What to do about these characters: the command that takes them out of a file.
    fn remedy(
        &self,
        characters: impl IntoIterator<Item = char>,
        command: fn(&Path, &BTreeSet<char>) -> String,
    ) -> String {
        match self.path() {
            Some(path) => format!("run: {}", command(&path, &characters.into_iter().collect())),
            None => "write it without them".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }

    #[test]
    fn blanks_and_quotes_at_the_ends_and_control_characters_cause_a_warning() {
        let source = SecretSource::File("/s".into());
        for (text, code) in [
            ("hunter2\n", "secret-has-blanks"),
            (" hunter2", "secret-has-blanks"),
            ("hunter2\u{a0}", "secret-has-blanks"),
            ("\"hunter2\"", "secret-in-quotes"),
            ("hunter2'", "secret-in-quotes"),
            ("\u{201c}hunter2\u{201d}", "secret-in-quotes"),
            ("hun\tter2", "secret-has-invisible-characters"),
            ("hun\r\nter2", "secret-has-lines"),
            ("\u{feff}hunter2", "secret-has-invisible-characters"),
            ("hun\u{200d}ter2", "secret-has-invisible-characters"),
            ("hunter2\u{202e}", "secret-has-invisible-characters"),
            ("hun\u{ad}ter2", "secret-has-invisible-characters"),
            ("hun\u{a0}ter2", "secret-has-invisible-characters"),
        ] {
            let problem = source
                .warn_of(&secret(text))
                .unwrap_or_else(|| panic!("{text:?}"));
            assert_eq!(problem.code(), code, "{text:?}");
            assert!(!problem.to_string().contains("ter2"), "{problem}");
        }
        for text in ["hunter2", "hun ter2", "h\"unte'r2", "\u{e4}", "<hunter2>"] {
            assert_eq!(source.warn_of(&secret(text)), None, "{text:?}");
        }
    }

    #[test]
    fn each_credential_of_the_documentation_is_a_placeholder() {
        let documents = [
            include_str!("../../README.md"),
            include_str!("../../Dockerfile"),
            include_str!("../../config/example.toml"),
            include_str!("../../config/demo.toml"),
            include_str!("../../config/kubernetes/overlays/stage/settings/bondgate.env"),
            include_str!("../../config/systemd/bondgate.service"),
        ];
        let mut found = 0;
        for line in documents.iter().flat_map(|text| text.lines()) {
            for key in [
                "client_id = \"",
                "client_secret = \"",
                "BONDGATE_CLIENT_ID=",
                "proxy = \"http",
            ] {
                let Some((_, rest)) = line.split_once(key) else {
                    continue;
                };
                let rest = format!("{}{rest}", if key.ends_with("http") { "http" } else { "" });
                let end = rest.find(['"', ' ', '\\', '\'']).unwrap_or(rest.len());
                let value = secret(&rest[..end]);
                let is_secret = !["demo", "http://proxy.corp:3128", "\u{2026}"].contains(&&rest[..end]);
                found += usize::from(is_secret);
                assert!(!is_secret || is_placeholder(&value), "{line}");
            }
        }
        assert!(found > 4, "{found} in the documentation");
        for text in [
            "<secret>",
            "CHANGEME",
            "changeme\n",
            "\"<secret>\"",
            "\u{201c}changeme\u{201d}",
        ] {
            assert!(is_placeholder(&secret(text)), "{text}");
        }
        for text in ["demo", "changeme2", "a<b>", "0oa12345"] {
            assert!(!is_placeholder(&secret(text)), "{text}");
        }
    }
}
