//! What is known of Cisco's services, so that a file needs only credentials.
//!
//! Hosts, paths and the form shape are those of Cisco's Smart Bonding and Support API pages.

use serde::Deserialize as _;

use super::rule::{Rule, Rules};
use super::tree::{self, Origin, Table};

const SMART_BONDING: &str = r#"
client_auth = "form"
rules = [
  { methods = ["POST"], path = "/sb-partner-oauth-proxy-api/rest/v1/push/call", fresh = true },
  { methods = ["GET", "POST"], path = "/sb-partner-oauth-proxy-api/rest/v1/pull/call", consuming = true },
  { methods = ["GET"], path = "/sb-partner-oauth-proxy-api/tsp/api/v1/xylem/tspcodes" },
]
"#;

const STAGE: &str = r#"
url = "https://stage.sbnprd.xylem.cisco.com"
token_url = "https://int-id.cisco.com/oauth2/default/v1/token"
"#;

const PROD: &str = r#"
url = "https://sb.xylem.cisco.com"
token_url = "https://id.cisco.com/oauth2/default/v1/token"
"#;

const SUPPORT: &str = r#"
url = "https://apix.cisco.com"
token_url = "https://id.cisco.com/oauth2/default/v1/token"
client_auth = "form"
rules = [
  { methods = ["GET"], path = "/supporttools/eox/rest/5/*", encoded_slash = true },
  { methods = ["GET"], path = "/sn2info/v2/*", encoded_slash = true },
  { methods = ["GET"], path = "/product/v1/*", encoded_slash = true },
  { methods = ["GET"], path = "/bug/v2.0/*", encoded_slash = true },
  { methods = ["GET"], path = "/case/v3/*", encoded_slash = true },
  { methods = ["GET"], path = "/software/suggestion/v2/*", encoded_slash = true },
  { methods = ["GET"], path = "/return/v1.0/*", encoded_slash = true },
  { methods = ["GET"], path = "/security/advisories/v2/*", encoded_slash = true },
  { methods = ["GET"], path = "/cs/api/v1/*", encoded_slash = true },
  { methods = ["GET"], path = "/cs/api/v2/*", encoded_slash = true },
]
"#;

/// The names that `preset` may have.
pub(super) const NAMES: [&str; 4] = [
    "smart-bonding-stage",
    "smart-bonding-prod",
    "cisco-support",
    "none",
];

/// The values that a preset fills; nothing for a name that is none.
pub(super) fn values(name: &str) -> Option<(&'static str, Table)> {
    let (name, text) = text(name)?;
    let (table, errors) = tree::parse(&text, &|_| Origin::Preset(name));
    debug_assert!(errors.is_empty(), "a preset is TOML");
    Some((name, table))
}

/// The rules of a preset: what is known of its requests, whatever else is let through.
pub(super) fn rules(name: &str) -> Vec<Rule> {
    let (_, text) = text(name).unwrap_or_default();
    let mut table: toml::Table = text.parse().expect("a preset is TOML");
    let rules = table.remove("rules").map(Rules::deserialize);
    match rules {
        Some(Ok(Rules::List(rules))) => rules,
        _ => Vec::new(),
    }
}

fn text(name: &str) -> Option<(&'static str, String)> {
    let at = NAMES.iter().position(|known| *known == name)?;
    let texts = [
        STAGE.to_owned() + SMART_BONDING,
        PROD.to_owned() + SMART_BONDING,
        SUPPORT.to_owned(),
        String::new(),
    ];
    NAMES.into_iter().zip(texts).nth(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_knows_which_of_its_requests_take_a_message() {
        for name in ["smart-bonding-stage", "smart-bonding-prod"] {
            let rules = rules(name);
            assert!(rules.iter().any(|rule| rule.consuming), "{name}");
        }
        assert!(!rules("cisco-support").is_empty());
        assert!(rules("none").is_empty());
    }
}
