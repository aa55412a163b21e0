//! Validates a request's path and matches it against the upstream's rules. A valid path is sent byte for byte.
//!
//! Servers interpret dot segments, encoded slashes and repeated encoding differently. A path that any of them could read
//! as another path is refused, so that the path that was matched is the path that every server reads.

use std::borrow::Cow;

use crate::config::{Rule, Rules};

/// A path that every server reads alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlainPath<'a> {
    path: &'a str,
    /// Some servers see more segments than others.
    pub(super) has_encoded_slash: bool,
}

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the path has two slashes in a row")]
    DoubleSlash,
    #[error("the path has a dot segment (\".\" or \"..\")")]
    DotSegment,
    #[error("the path has an encoded dot (%2E)")]
    EncodedDot,
    #[error("the path has a backslash")]
    Backslash,
    #[error("the path has a \";\", where some servers end a segment")]
    Semicolon,
    #[error("the path has a \"%\" without two hexadecimal digits")]
    Percent,
    #[error(
        "the path has a byte (%C0, %C1) that is never valid in UTF-8 and that some servers decode to another character"
    )]
    Overlong,
    #[error("the path has '{0}', which some clients and servers encode and others do not")]
    Unencoded(char),
    #[error("the path has the control character 0x{0:02X}, encoded")]
    Control(u8),
    #[error("the path has an encoded slash (%2F), which no rule allows")]
    EncodedSlash,
}

impl PathError {
    /// What to send instead.
    pub(crate) fn fix(self) -> &'static str {
        match self {
            Self::DoubleSlash => "remove the base URL's trailing slash",
            Self::DotSegment => "send the resolved path",
            Self::EncodedDot => "send a plain dot",
            Self::Backslash => "use slashes",
            Self::Semicolon => "encode it as %3B",
            Self::Percent => "encode it as %25",
            Self::Overlong | Self::Control(_) => "remove it",
            Self::Unencoded(_) => "percent-encode it",
            Self::EncodedSlash => "set encoded_slash in the rule if one should",
        }
    }
}

/// Characters that some URL libraries encode (WHATWG URL, the path percent-encode set).
const ENCODED_BY_SOME: &[u8] = b"\"<>^`{}";

/// How many rounds of decoding are checked: more than any chain of servers does.
const DEPTH: usize = 4;

impl<'a> PlainPath<'a> {
    /// Validates a path, without its query, as the caller sent it.
    pub(crate) fn parse(path: &'a str) -> Result<Self, PathError> {
        if path.contains("//") {
            return Err(PathError::DoubleSlash);
        }
        if let Some(at) = path
            .bytes()
            .position(|byte| !byte.is_ascii_graphic() || ENCODED_BY_SOME.contains(&byte))
        {
            let character = path[at..].chars().next();
            return Err(PathError::Unencoded(character.unwrap_or_default()));
        }
        let mut decoded = Cow::Borrowed(path.as_bytes());
        let mut has_encoded_slash = false;
        check_decoded(&decoded)?;
        for depth in 0..DEPTH {
            if !decoded.contains(&b'%') {
                break;
            }
            let next = decode(&decoded, depth == 0)?;
            if next == *decoded {
                break;
            }
            let slashes = |bytes: &[u8]| bytes.split(|byte| *byte == b'/').count();
            has_encoded_slash |= slashes(&next) != slashes(&decoded);
            decoded = Cow::Owned(next);
            check_decoded(&decoded)?;
        }
        Ok(Self {
            path,
            has_encoded_slash,
        })
    }

    /// The rule that allows a method on this path, or the methods that rules allow on it.
    pub(crate) fn match_rule<'r>(
        &self,
        method: &http::Method,
        rules: &'r Rules,
    ) -> Result<Option<&'r Rule>, Vec<&'r http::Method>> {
        let rules = match rules {
            // The upstream may read an encoded slash as a separator.
            Rules::Any(_) if self.has_encoded_slash => return Err(Vec::new()),
            // On a consuming path, another method could take a message past the spool.
            Rules::Any(known) if !known.iter().any(|rule| rule.consuming && self.matches(rule)) => {
                let mut matching = known.iter().filter(|rule| self.matches(rule));
                return Ok(matching.find(|rule| rule.methods.contains(method)));
            }
            Rules::Any(rules) | Rules::List(rules) => rules,
        };
        let matching = || rules.iter().filter(|rule| self.matches(rule));
        matching()
            .find(|rule| rule.methods.contains(method))
            .map(Some)
            .ok_or_else(|| matching().flat_map(|rule| &rule.methods).collect())
    }

    fn matches(&self, rule: &Rule) -> bool {
        let may_hold_slash = rule.encoded_slash && rule.path.prefix().is_some();
        rule.path.matches(self.path) && (!self.has_encoded_slash || may_hold_slash)
    }
}

fn check_decoded(path: &[u8]) -> Result<(), PathError> {
    if path
        .split(|byte| *byte == b'/')
        .any(|segment| segment == b"." || segment == b"..")
    {
        return Err(PathError::DotSegment);
    }
    match path
        .iter()
        .find(|byte| matches!(byte, b'\\' | b';' | 0..=0x1f | 0x7f))
    {
        None => Ok(()),
        Some(b'\\') => Err(PathError::Backslash),
        Some(b';') => Err(PathError::Semicolon),
        Some(&control) => Err(PathError::Control(control)),
    }
}

/// One round of percent-decoding. In the path as sent (`is_strict`), every percent sign must begin an encoded byte; in a
/// decoded path, another percent sign is literal.
fn decode(path: &[u8], is_strict: bool) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(path.len());
    let mut at = 0;
    while at < path.len() {
        let hex = |offset: usize| {
            path.get(at + offset)
                .and_then(|byte| (*byte as char).to_digit(16))
        };
        match (path[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => {
                let byte = u8::try_from(high << 4 | low).unwrap_or_default();
                if matches!(byte, 0xc0 | 0xc1) {
                    return Err(PathError::Overlong);
                }
                if byte == b'.' {
                    return Err(PathError::EncodedDot);
                }
                // `%3B` is the valid encoding of a semicolon: hide it from the check.
                out.push(if byte == b';' && is_strict { b'_' } else { byte });
                at += 3;
            }
            (b'%', ..) if is_strict => return Err(PathError::Percent),
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Checks that each rule's path is one that a valid request can have.
pub fn validate_rules(rules: &Rules) -> Result<(), RuleError> {
    let Rules::List(rules) = rules else { return Ok(()) };
    for rule in rules {
        let path = rule.path.prefix().unwrap_or(rule.path.text());
        let refused = match PlainPath::parse(path) {
            Ok(valid) => valid.has_encoded_slash.then_some(PathError::EncodedSlash),
            Err(error) => Some(error),
        };
        if let Some(source) = refused {
            let path = path.to_owned();
            return Err(RuleError { path, source });
        }
    }
    Ok(())
}

/// A rule whose path no valid request can have.
#[derive(Debug, thiserror::Error)]
#[error("the rule for {path:?} matches no request")]
pub struct RuleError {
    path: String,
    source: PathError,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn real_paths_are_valid() {
        for path in [
            "/",
            "/sb-partner-oauth-proxy-api/rest/v1/pull/call",
            "/product/v1/WIC-1T=",
            "/a,b*c:d@e!$&'()+",
            "/caf%C3%A9",
            "/100%25",
            "/a%20b",
            "/a%3Bb",
            "/.well-known/x",
            "/a..b",
            "/...",
        ] {
            assert!(PlainPath::parse(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_path_that_some_servers_read_as_another_is_refused() {
        for (path, error) in [
            ("//a", PathError::DoubleSlash),
            ("/a//b", PathError::DoubleSlash),
            ("/a/../b", PathError::DotSegment),
            ("/a/.", PathError::DotSegment),
            ("/..", PathError::DotSegment),
            ("/a/%2e%2E/b", PathError::EncodedDot),
            ("/a/%252e%252e/b", PathError::EncodedDot),
            ("/a/%25252e/b", PathError::EncodedDot),
            ("/a%2f..%2fb", PathError::DotSegment),
            ("/a\\b", PathError::Backslash),
            ("/a%5Cb", PathError::Backslash),
            ("/a%255cb", PathError::Backslash),
            ("/a;b=c/d", PathError::Semicolon),
            ("/a%253Bb", PathError::Semicolon),
            ("/a%00", PathError::Control(0)),
            ("/a%0d%0ab", PathError::Control(13)),
            ("/a%2500", PathError::Control(0)),
            ("/a/%c0%ae%C0%ae/b", PathError::Overlong),
            ("/a\"b", PathError::Unencoded('"')),
            ("/{id}", PathError::Unencoded('{')),
            ("/caf\u{e9}", PathError::Unencoded('\u{e9}')),
            ("/%", PathError::Percent),
            ("/%4", PathError::Percent),
            ("/%zz", PathError::Percent),
        ] {
            assert_eq!(PlainPath::parse(path), Err(error), "{path}");
        }
    }

    #[test]
    fn an_encoded_slash_goes_only_where_a_rule_allows_it() {
        let rules = |allowed: bool| {
            Rules::List(vec![Rule {
                methods: vec![http::Method::GET],
                path: "/product/v1/*".to_owned().try_into().unwrap(),
                consuming: false,
                fresh: false,
                encoded_slash: allowed,
            }])
        };
        for path in ["/product/v1/ISR4331%2FK9", "/product/v1/ISR4331%252FK9"] {
            let plain = PlainPath::parse(path).unwrap();
            assert!(plain.match_rule(&http::Method::GET, &rules(true)).is_ok());
            assert!(plain.match_rule(&http::Method::GET, &rules(false)).is_err());
            assert!(
                plain
                    .match_rule(&http::Method::GET, &Rules::Any(Vec::new()))
                    .is_err()
            );
        }
    }

    #[test]
    fn the_refusal_of_a_method_names_the_allowed_methods() {
        let rule = Rule {
            methods: vec![http::Method::GET, http::Method::POST],
            path: "/pull".to_owned().try_into().unwrap(),
            consuming: true,
            fresh: false,
            encoded_slash: false,
        };
        let (list, any) = (Rules::List(vec![rule.clone()]), Rules::Any(vec![rule]));
        let refused = |path, method, rules| {
            let plain = PlainPath::parse(path).unwrap();
            plain
                .match_rule(&method, rules)
                .err()
                .map(|methods| methods.len())
        };
        let refused_by_list = |path, method| refused(path, method, &list);
        assert_eq!(refused_by_list("/pull", http::Method::GET), None);
        assert_eq!(refused_by_list("/pull", http::Method::PUT), Some(2));
        assert_eq!(refused_by_list("/pull/", http::Method::GET), Some(0));
        assert_eq!(refused_by_list("/Pull", http::Method::GET), Some(0));
        // HEAD would take a message past the spool.
        assert_eq!(refused("/pull", http::Method::HEAD, &any), Some(2));
        assert_eq!(refused("/pull", http::Method::GET, &any), None);
        assert_eq!(refused("/other", http::Method::HEAD, &any), None);
    }

    proptest! {
        #[test]
        fn a_valid_path_is_the_same_for_every_server(path in "/([a-c./;%\\\\]|%2[eEfF5]|%5c|\\.\\.){0,12}") {
            if PlainPath::parse(&path).is_ok() {
                let url = reqwest::Url::parse(&format!("https://h{path}")).unwrap();
                prop_assert_eq!(url.path(), path);
            }
        }

        #[test]
        fn no_path_makes_it_panic(path in ".{0,40}") {
            let _ = PlainPath::parse(&path);
        }
    }
}
