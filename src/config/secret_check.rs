//! Secrets that are probably not meant as they are: with blanks or quotes around them, or copied from the documentation.

use secrecy::{ExposeSecret as _, SecretString};

use super::secret::SecretSource;
use crate::problems::{Problem, files};

/// The placeholders of bondgate's own documentation, in addition to `changeme` and `<…>`.
const OWN: [&str; 3] = [
    "0oaYOURCLIENTID",
    "demo-secret",
    "http://user:password@proxy.corp:3128",
];

/// Whether a secret is a placeholder, by its whole value.
pub(super) fn is_placeholder(secret: &SecretString) -> bool {
    let text = secret.expose_secret().trim();
    let is_in_brackets = text.starts_with('<') && text.ends_with('>');
    is_in_brackets || text.eq_ignore_ascii_case("changeme") || OWN.contains(&text)
}

impl SecretSource {
    /// The warning for a secret from this source that has blanks or quotes at its ends, or control characters. It shows
    /// nothing of the secret.
    pub(crate) fn warn_of(&self, secret: &SecretString) -> Option<Problem> {
        let text = secret.expose_secret();
        let is_quote = |character: char| "\"'`\u{2018}\u{2019}\u{201c}\u{201d}".contains(character);
        let is_invisible = |character: char| character.is_control() || "\u{200b}\u{feff}".contains(character);
        if text.trim() != text {
            let remedy = self.remedy("s/^[[:space:]]*//;s/[[:space:]]*$//");
            Some(files::secret_has_blanks(remedy))
        } else if text.starts_with(is_quote) || text.ends_with(is_quote) {
            let remedy = self.remedy("s/^[\"`\\x27]*//;s/[\"`\\x27[:space:]]*$//");
            Some(files::secret_in_quotes(remedy))
        } else if text.contains(is_invisible) {
            Some(files::secret_has_control_characters())
        } else {
            None
        }
    }

    fn remedy(&self, script: &str) -> String {
        match self.path() {
            Some(path) => format!("run: sed -zi '{script}' {}", path.display()),
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
            ("hun\tter2", "secret-has-control-characters"),
            ("hun\r\nter2", "secret-has-control-characters"),
            ("\u{feff}hunter2", "secret-has-control-characters"),
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
            include_str!("../../config/kubernetes/sidecar.yaml"),
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
        for text in ["<secret>", "CHANGEME", "changeme\n"] {
            assert!(is_placeholder(&secret(text)), "{text}");
        }
        for text in ["demo", "changeme2", "a<b>", "0oa12345"] {
            assert!(!is_placeholder(&secret(text)), "{text}");
        }
    }
}
