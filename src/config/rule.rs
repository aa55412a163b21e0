//! Which requests an upstream takes, as the file says it; what a path means is judged in the proxy.

use http::Method;
use serde::Deserialize;

use super::section::Written;

/// The requests that are let through to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Every method but CONNECT and TRACE, every path. The rules are what is known of some of them all
    /// the same: which take a message off a queue.
    Any(Vec<Rule>),
    /// What one of the rules names, and nothing else.
    List(Vec<Rule>),
}

/// One kind of request that is let through, and how it is treated.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "RawRule")]
pub struct Rule {
    /// The methods, in capitals.
    pub methods: Vec<Method>,
    /// The path, matched on its canonical form.
    pub path: PathPattern,
    /// The answer takes something off a queue: never asked for twice, sent on a connection of its own.
    pub consuming: bool,
    /// Sent on a connection of its own, never on a kept one.
    pub fresh: bool,
    /// Whether `%2F` may stand in the part of the path that a `*` matches.
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
    /// Whether some request takes a message off a queue.
    #[must_use]
    pub fn consume(&self) -> bool {
        self.named().iter().any(|rule| rule.consuming)
    }

    /// The rules of which something is known.
    #[must_use]
    pub fn named(&self) -> &[Rule] {
        let (Self::Any(rules) | Self::List(rules)) = self;
        rules
    }
}

impl PathPattern {
    /// Whether a canonical path is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Below(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    methods: Vec<String>,
    path: String,
    #[serde(default)]
    consuming: bool,
    #[serde(default)]
    fresh: bool,
    #[serde(default)]
    encoded_slash: bool,
}

impl TryFrom<RawRule> for Rule {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, Self::Error> {
        if raw.methods.is_empty() {
            return Err(format!(
                "the rule for {:?} names no method; write methods = [\"GET\"]",
                raw.path
            ));
        }
        let methods: Vec<_> = raw
            .methods
            .iter()
            .map(|name| method(name))
            .collect::<Result<_, _>>()?;
        if raw.consuming && methods.contains(&Method::HEAD) {
            return Err(format!(
                "the rule for {:?} is consuming, and HEAD would take a message and show nothing of it; leave HEAD out",
                raw.path
            ));
        }
        Ok(Self {
            methods,
            path: pattern(&raw.path)?,
            consuming: raw.consuming,
            fresh: raw.fresh,
            encoded_slash: raw.encoded_slash,
        })
    }
}

impl Written for Rules {
    const FORM: &'static str = "rules = \"any\", or a list like [{ methods = [\"GET\"], path = \"/path\" }]";
}

impl<'de> Deserialize<'de> for Rules {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Word(String),
            List(Vec<toml::Value>),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Word(word) if word == "any" => Ok(Self::Any(Vec::new())),
            Raw::List(list) if list.is_empty() => Err(serde::de::Error::custom(
                "no rule lets nothing through; add one, or write rules = \"any\"",
            )),
            Raw::List(list) => list
                .into_iter()
                .map(|rule| {
                    Rule::deserialize(rule).map_err(|error| serde::de::Error::custom(error.message()))
                })
                .collect::<Result<_, _>>()
                .map(Self::List),
            Raw::Word(word) => Err(serde::de::Error::custom(format!(
                "{word:?} is not a list of rules; write rules = \"any\", or rules = [{{ methods = [\"GET\"], path = \"/path\" }}]"
            ))),
        }
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
    let (pattern, bare) = match path.strip_suffix('*') {
        Some(prefix) if prefix.ends_with('/') => (PathPattern::Below(prefix.to_owned()), prefix),
        Some(_) => {
            return Err(format!(
                "{path:?} ends in * without a slash before it; write it like \"/prefix/*\""
            ));
        }
        None => (PathPattern::Exact(path.to_owned()), path),
    };
    if !bare.starts_with('/') || bare.contains(['?', '#', '\\', ' ']) {
        return Err(format!(
            "{path:?} is not a path; write it like \"/a/b\" or \"/a/*\", without query"
        ));
    }
    Ok(pattern)
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
            panic!("a list of rules is taken");
        };
        assert!(rules[0].consuming && !rules[0].fresh);
        assert!(rules[0].path.matches("/a/b") && !rules[0].path.matches("/ab"));
    }

    #[test]
    fn a_rule_that_cannot_be_meant_says_what_to_write() {
        for (wrong, told) in [
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
            assert!(error.contains(told), "{wrong}: {error}");
        }
    }
}
