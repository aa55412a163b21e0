//! The secrets that this user can read, to search a bundle for them. No section should contain one: the search is a second
//! safeguard.

use std::fmt::Display;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::configuration::Configuration;
use super::time_limit::limited;
use crate::config::{CallerKeys, Config, OutboundProxy};
use crate::token::SecretMatcher;

/// A shorter secret may be a word of any line.
const SHORTEST: usize = 8;

/// The variables that may hold the password of an outbound proxy.
const PROXIES: [&str; 6] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// A search for the secrets of a configuration.
pub(super) struct Secrets {
    matcher: SecretMatcher,
    searched: usize,
    /// What is not searched for, and why.
    unsearched: Vec<String>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self {
            matcher: SecretMatcher::of_whole_secrets(),
            searched: 0,
            unsearched: Vec::new(),
        }
    }
}

impl Secrets {
    /// The secrets that a configuration names, as they are now, and those of the environment.
    pub(super) fn of(configuration: &Configuration) -> Self {
        let mut secrets = Self::default();
        match configuration.config() {
            Some(config) => secrets.add_config(config),
            None => secrets
                .unsearched
                .push("the configuration cannot be read".to_owned()),
        }
        for name in PROXIES {
            if let Ok(url) = std::env::var(name) {
                secrets.add_proxy(name, &SecretString::from(url));
            }
        }
        secrets
    }

    fn add_config(&mut self, config: &Config) {
        for upstream in &config.upstreams {
            let key = |name: &str| format!("upstream.{}.{name}", upstream.name);
            let secret = upstream.client_secret.clone();
            match read(move || secret.load()) {
                Ok(secret) => self.add(&key("client_secret"), &secret),
                Err(error) => self.unsearched.push(format!("{}: {error}", key("client_secret"))),
            }
            if let OutboundProxy::Url(source) = &upstream.proxy {
                let source = source.clone();
                match read(move || source.load()) {
                    Ok(url) => self.add_proxy(&key("proxy"), &url),
                    Err(error) => self.unsearched.push(format!("{}: {error}", key("proxy"))),
                }
            }
        }
        for (at, listener) in config.listeners.iter().enumerate() {
            let Some(source) = listener.keys.clone() else {
                continue;
            };
            let of = format!("listener[{at}].keys");
            match read(move || CallerKeys::load(&source)) {
                Ok(keys) => {
                    for key in keys.iter() {
                        let secret = SecretString::from(String::from_utf8_lossy(key.key()).into_owned());
                        self.add(&format!("{of}: the key of {}", key.name()), &secret);
                    }
                }
                Err(error) => self.unsearched.push(format!("{of}: {error}")),
            }
        }
    }

    /// Adds the password in the URL of a proxy. Everything before the last `@` is credentials.
    fn add_proxy(&mut self, of: &str, url: &SecretString) {
        let url = url.expose_secret().trim();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let Some((credentials, _)) = rest.rsplit_once('@') else {
            return;
        };
        let (_, password) = credentials.split_once(':').unwrap_or_default();
        if !password.is_empty() {
            self.add(of, &SecretString::from(password));
            // What is sent is decoded.
            let decoded = percent_decoded(password);
            if decoded.expose_secret().len() >= SHORTEST {
                self.matcher.add(&decoded);
            }
        }
    }

    fn add(&mut self, of: &str, secret: &SecretString) {
        if secret.expose_secret().len() < SHORTEST {
            self.unsearched.push(format!(
                "{of}: it has fewer than {SHORTEST} bytes, which may be in any line"
            ));
            return;
        }
        self.matcher.add(secret);
        self.searched += 1;
    }

    /// Whether a line holds one of them.
    pub(super) fn are_in(&self, line: &str) -> bool {
        if self.searched == 0 {
            return false;
        }
        let is_in_json = || {
            let unescaped = Zeroizing::new(line.replace("\\\"", "\""));
            self.matcher.is_in(&unescaped.replace("\\\\", "\\"))
        };
        self.matcher.is_in(line) || line.contains('\\') && is_in_json()
    }

    /// What was searched for, and what was not.
    pub(super) fn search_report(&self, withheld: usize) -> Vec<String> {
        let found = match withheld {
            0 => "no line holds one".to_owned(),
            1 => "1 line holds one and is left out".to_owned(),
            lines => format!("{lines} lines hold one and are left out"),
        };
        let searched = match self.searched {
            0 => "It was not searched for secrets: none could be read.".to_owned(),
            count => format!(
                "It was searched for the secrets of the configuration that this user can read ({count} of them; plain, \
             percent-encoded,\nin base64 and in hexadecimal digits): {found}."
            ),
        };
        let unsearched = self
            .unsearched
            .iter()
            .map(|reason| format!("Not searched for: {reason}."));
        std::iter::once(searched).chain(unsearched).collect()
    }
}

/// Reads a secret, from a file perhaps, or the reason why it cannot be read.
fn read<T: Send + 'static, E: Display + Send + 'static>(
    load: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    limited("reading it", load)?.map_err(|error| error.to_string())
}

/// A part of a URL, decoded.
fn percent_decoded(text: &str) -> SecretString {
    let value = Zeroizing::new(text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D"));
    let decoded = form_urlencoded::parse(value.as_bytes()).map(|(value, _)| value);
    SecretString::from(decoded.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_secrets_are_found_and_words_that_they_begin_with_are_not() {
        let mut secrets = Secrets::default();
        secrets.add("a", &SecretString::from("bondgate-key-1"));
        for line in [
            "x bondgate-key-1 y",
            "x=bondgate%2Dkey%2D1&",
            "Ym9uZGdhdGUta2V5LTE=",
            "Basic aWQ6Ym9uZGdhdGUta2V5LTE=",
            "eyJhYSI6ImJvbmRnYXRlLWtleS0xIn0=",
            "626f6e64676174652d6b65792d31",
        ] {
            assert!(secrets.are_in(line), "{line}");
        }
        assert!(!secrets.are_in("bondgate-key-2 of bondgate"));
        secrets.add("b", &SecretString::from("quote\"and\\slash"));
        assert!(secrets.are_in("{\"a\":\"quote\\\"and\\\\slash\"}"));
    }

    #[test]
    fn the_password_of_a_proxy_is_searched_for_as_it_is_written_and_as_it_is_sent() {
        let mut secrets = Secrets::default();
        secrets.add_proxy(
            "proxy",
            &SecretString::from("http://user:p%40ss-w%2Frd@proxy:3128"),
        );
        secrets.add_proxy("proxy", &SecretString::from("http://proxy:3128"));
        assert_eq!(secrets.searched, 1);
        for line in [
            "http://user:p%40ss-w%2Frd@proxy",
            "p@ss-w/rd",
            "dXNlcjpwQHNzLXcvcmQ=",
        ] {
            assert!(secrets.are_in(line), "{line}");
        }
    }

    #[test]
    fn a_short_secret_is_not_searched_for_and_the_report_says_so() {
        let mut secrets = Secrets::default();
        secrets.add("keys", &SecretString::from("snow"));
        secrets.add_proxy("proxy", &SecretString::from("http://user:cisco@proxy:3128"));
        secrets.add("secret", &SecretString::from("long enough"));
        assert!(!secrets.are_in("caller=snow upstream=cisco"));
        let report = secrets.search_report(0).join("\n");
        assert!(
            report.contains("Not searched for: keys: it has fewer than 8 bytes"),
            "{report}"
        );
    }
}
