//! Presets: what is known of Cisco's services, so that an upstream needs only credentials.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};
use toml::Table;

use super::rule::{Rule, Rules};

/// How an API rejects a token.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum TokenRejection {
    /// 401 (RFC 6750 §3.1).
    #[default]
    Unauthorized,
    /// 401, or the 403 of Cisco's API gateway (Mashery) in front of `apix.cisco.com`.
    Mashery,
}

#[derive(Deserialize)]
pub(super) struct Preset {
    #[serde(default)]
    pub(super) token_rejection: TokenRejection,
    /// Keys of the upstream, as in a configuration file.
    #[serde(default)]
    pub(super) upstream: Table,
}

impl Preset {
    /// The requests that are known of the service, whatever else is allowed.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let rules = self.upstream.get("rules").cloned();
        match rules.map(Rules::deserialize) {
            Some(Ok(Rules::List(rules))) => rules,
            _ => Vec::new(),
        }
    }
}

/// A preset and its name.
pub(super) fn find(name: &str) -> Option<(String, Preset)> {
    all().remove_entry(name)
}

/// The names of all presets, for messages.
pub(super) fn names() -> String {
    all().into_keys().collect::<Vec<_>>().join(", ")
}

/// Deserializes the name of a preset.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match find(&name) {
        Some(_) => Ok(name),
        None => Err(de::Error::custom(format!(
            "{name:?} is not a preset; it is one of {}",
            names()
        ))),
    }
}

fn all() -> BTreeMap<String, Preset> {
    toml::from_str(include_str!("presets.toml")).expect("the presets are TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_knows_which_of_its_requests_consume_a_message() {
        let rules = |name: &str| find(name).unwrap().1.rules();
        for name in ["smart-bonding-stage", "smart-bonding-prod"] {
            assert!(rules(name).iter().any(|rule| rule.consuming), "{name}");
        }
        assert!(!rules("cisco-support").is_empty());
        assert!(rules("none").is_empty());
    }

    #[test]
    fn only_the_support_apis_reject_a_token_by_mashery() {
        for (name, preset) in all() {
            let is_mashery = preset.token_rejection == TokenRejection::Mashery;
            assert_eq!(is_mashery, name == "cisco-support", "{name}");
        }
    }
}
