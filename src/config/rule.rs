//! The requests that an upstream accepts. The proxy decides what path a request has.

use std::fmt;

use http::Method;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The allowed requests of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Every method except CONNECT and TRACE, and every path. The rules describe known requests, such as those
    /// that consume a message.
    Any(Vec<Rule>),
    /// What one of the rules allows, and nothing else.
    List(Vec<Rule>),
}

/// One kind of request that is allowed, and how it is sent.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "RuleTable")]
pub struct Rule {
    /// The methods.
    pub methods: Vec<Method>,
    /// The path, matched on its canonical form.
    pub path: PathPattern,
    /// The response takes a message off a queue: sent once, on a connection of its own.
    pub consuming: bool,
    /// Sent on a new connection, never on a pooled one.
    pub fresh: bool,
    /// Whether `%2F` is allowed in the part of the path that `*` matches.
    pub encoded_slash: bool,
}

/// The path of a rule: exact, or everything below a prefix (`/prefix/*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// This path alone.
    Exact(String),
    /// Each path that begins with this text, which ends in a slash.
    Below(String),
}

impl Rules {
    /// Whether a known request takes a message off a queue.
    #[must_use]
    pub fn consume(&self) -> bool {
        self.named().iter().any(|rule| rule.consuming)
    }

    /// The known requests.
    #[must_use]
    pub fn named(&self) -> &[Rule] {
        let (Self::Any(rules) | Self::List(rules)) = self;
        rules
    }
}

impl PathPattern {
    /// Whether a canonical path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Below(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RulesVisitor)
    }
}

struct RulesVisitor;

impl<'de> Visitor<'de> for RulesVisitor {
    type Value = Rules;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rules, E> {
        match text {
            "any" => Ok(Rules::Any(Vec::new())),
            _ => Err(E::custom(format!(
                "{text:?} is not a list of rules; write {FORM}"
            ))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rules, A::Error> {
        let mut rules = Vec::new();
        while let Some(rule) = list.next_element()? {
            rules.push(rule);
        }
        if rules.is_empty() {
            return Err(de::Error::custom(
                "allows no request; add a rule, or write rules = \"any\"",
            ));
        }
        Ok(Rules::List(rules))
    }
}

const FORM: &str = "rules = \"any\", or a list like [{ methods = [\"GET\"], path = \"/path\" }]";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    methods: Vec<String>,
    path: String,
    #[serde(default)]
    consuming: bool,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    encoded_slash: bool,
}

impl TryFrom<RuleTable> for Rule {
    type Error = String;

    fn try_from(table: RuleTable) -> Result<Self, Self::Error> {
        let path = &table.path;
        if table.methods.is_empty() {
            return Err(format!(
                "the rule for {path:?} names no method; write methods = [\"GET\"]"
            ));
        }
        let methods: Vec<_> = table
            .methods
            .iter()
            .map(|name| method(name))
            .collect::<Result<_, _>>()?;
        if table.consuming && methods.contains(&Method::HEAD) {
            return Err(format!(
                "the rule for {path:?} is consuming, and HEAD would consume a message without showing it; leave HEAD out"
            ));
        }
        Ok(Self {
            methods,
            path: pattern(path)?,
            consuming: table.consuming,
            fresh: table.fresh,
            encoded_slash: table.encoded_slash,
        })
    }
}

fn method(name: &str) -> Result<Method, String> {
    match Method::from_bytes(name.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => Err(format!("{name} is never relayed; leave it out")),
        Ok(method) if name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') => Ok(method),
        _ => Err(format!(
            "{name:?} is not a method; write it in capitals, like \"GET\""
        )),
    }
}

fn pattern(path: &str) -> Result<PathPattern, String> {
    let bare = path.strip_suffix('*').unwrap_or(path);
    if bare != path && !bare.ends_with('/') {
        return Err(format!(
            "{path:?} ends in * without a slash before it; write it like \"/prefix/*\""
        ));
    }
    if !bare.starts_with('/') || bare.contains(['?', '#', '\\', ' ']) {
        return Err(format!(
            "{path:?} is not a path; write it like \"/a/b\" or \"/a/*\", without query"
        ));
    }
    if bare == path {
        Ok(PathPattern::Exact(path.to_owned()))
    } else {
        Ok(PathPattern::Below(bare.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Rules, String> {
        let value: toml::Value = text.parse().map_err(|e: toml::de::Error| e.to_string())?;
        Rules::deserialize(value).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn rules_are_any_or_a_list_of_methods_and_paths() {
        assert!(matches!(read(r#""any""#), Ok(Rules::Any(_))));
        let Ok(Rules::List(rules)) = read(r#"[{ methods = ["GET"], path = "/a/*", consuming = true }]"#)
        else {
            panic!("a list of rules is accepted");
        };
        assert!(rules[0].consuming && !rules[0].fresh);
        assert!(rules[0].path.matches("/a/b") && !rules[0].path.matches("/ab"));
    }

    #[test]
    fn a_wrong_rule_says_what_to_write() {
        for (wrong, advice) in [
            (r#""all""#, "rules = \"any\""),
            ("[]", "rules = \"any\""),
            (r#"[{ methods = [], path = "/a" }]"#, "methods = [\"GET\"]"),
            (r#"[{ methods = ["get"], path = "/a" }]"#, "capitals"),
            (r#"[{ methods = ["TRACE"], path = "/a" }]"#, "never relayed"),
            (
                r#"[{ methods = ["GET", "HEAD"], path = "/a", consuming = true }]"#,
                "leave HEAD out",
            ),
            (r#"[{ methods = ["GET"], path = "a" }]"#, "is not a path"),
            (r#"[{ methods = ["GET"], path = "/a*" }]"#, "/prefix/*"),
            (
                r#"[{ methods = ["GET"], path = "/a", consumes = true }]"#,
                "consumes",
            ),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains(advice), "{wrong}: {error}");
        }
    }
}
