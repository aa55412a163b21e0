//! Rules: the requests that an upstream accepts. `proxy/authorization` matches requests with them.

use std::fmt;
use std::sync::Arc;

use http::Method;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{self, SeqAccess, Unexpected, Visitor};
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
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The methods.
    #[serde(deserialize_with = "methods")]
    pub methods: Vec<Method>,
    /// The path, compared with the request's path byte for byte.
    pub path: PathPattern,
    /// The response takes a message off a queue: sent once, on a connection of its own.
    #[serde(default)]
    pub consuming: bool,
    /// Sent on a new connection, never on a pooled one.
    #[serde(default)]
    pub fresh: bool,
    /// Whether `%2F` is allowed in the part of the path that `*` matches.
    #[serde(default)]
    pub encoded_slash: bool,
}

/// The path of a rule: exact, or everything below a prefix (`/prefix/*`).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct PathPattern(Arc<str>);

impl Rules {
    /// Whether a known request takes a message off a queue.
    #[must_use]
    pub fn consume(&self) -> bool {
        self.named().iter().any(|rule| rule.consuming)
    }

    /// Whether a request with this path takes a message off a queue, with one of its methods.
    #[must_use]
    pub fn consume_at(&self, path: &str) -> bool {
        let matching = || self.named().iter().filter(|rule| rule.path.matches(path));
        let first = |method| matching().find(|rule| rule.methods.contains(method));
        let mut methods = matching().flat_map(|rule| &rule.methods);
        methods.any(|method| first(method).is_some_and(|rule| rule.consuming))
    }

    /// The known requests.
    #[must_use]
    pub fn named(&self) -> &[Rule] {
        let (Self::Any(rules) | Self::List(rules)) = self;
        rules
    }
}

impl PathPattern {
    /// Whether a valid path, as the caller sent it, matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self.prefix() {
            Some(prefix) => path.starts_with(prefix),
            None => path == &*self.0,
        }
    }

    /// What each matching path begins with, a text that ends in a slash; `None` for an exact path.
    #[must_use]
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// The pattern as it is configured.
    #[must_use]
    pub fn text(&self) -> &Arc<str> {
        &self.0
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
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Rules, A::Error> {
        let rules = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        if rules.is_empty() {
            let found = Unexpected::Other("an empty list");
            return Err(de::Error::invalid_value(found, &self));
        }
        Ok(Rules::List(rules))
    }
}

const FORM: &str = "rules = \"any\", or a list like [{ methods = [\"GET\"], path = \"/path\" }]";

fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Method>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(de::Error::custom("is empty; write methods = [\"GET\"]"));
    }
    let methods = names.iter().map(|name| method(name));
    methods.collect::<Result<_, _>>().map_err(de::Error::custom)
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

impl TryFrom<String> for PathPattern {
    type Error = String;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        let prefix = path.strip_suffix('*');
        let bare = prefix.unwrap_or(&path);
        let is_path = bare.starts_with('/') && !bare.contains(['?', '#', '\\', ' ']);
        match prefix {
            None if is_path => Ok(Self(path.into())),
            Some(prefix) if is_path && prefix.ends_with('/') => Ok(Self(path.into())),
            _ => Err(format!(
                "{path:?} is not a path; write it like \"/a/b\" or \"/a/*\", without query"
            )),
        }
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
            (r#"[{ methods = ["GET"], path = "a" }]"#, "is not a path"),
            (r#"[{ methods = ["GET"], path = "/a*" }]"#, "/a/*"),
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
