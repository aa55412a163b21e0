//! An entry of the catalogue, and a problem: an entry with the values of one occurrence.

use std::fmt::{self, Display};

use serde::Serialize;

use super::example;

/// What the catalogue says about a problem, apart from the values of one occurrence.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The stable name, in words.
    pub code: &'static str,
    /// What the problem affects.
    pub area: Area,
    /// Whether something fails.
    pub severity: Severity,
    /// The cause in one line, as a format with its values.
    pub(super) cause: &'static str,
    /// The fix in one line, as a format with its values.
    pub(super) fix: &'static str,
    /// What `bondgate explain` adds.
    pub explanation: &'static str,
    /// The codes of problems that follow from this one, and are not reported beside it.
    pub hides: &'static [&'static str],
    /// Names a file, a client id, a queue or a proxy, which only the operator may see.
    pub(super) is_private: bool,
}

/// What a problem affects. It decides the exit code of `bondgate check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// The configuration, and the files that it names.
    Configuration,
    /// Sockets, descriptors, disk and sandbox of this machine.
    Machine,
    /// Names and connections.
    Network,
    /// The outbound proxy.
    OutboundProxy,
    /// Certificates and the clock.
    Tls,
    /// Requests for a token.
    Token,
    /// The upstream's API.
    Api,
    /// A request of a caller.
    Request,
    /// The messages in the spool.
    Spool,
    /// Commands that query a running daemon.
    Command,
}

impl Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::Machine => "machine",
            Self::Network => "network",
            Self::OutboundProxy => "outbound proxy",
            Self::Tls => "TLS and clock",
            Self::Token => "token",
            Self::Api => "API",
            Self::Request => "requests",
            Self::Spool => "spool",
            Self::Command => "commands",
        })
    }
}

/// Whether something fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It fails.
    Error,
    /// It works, or will again without a change.
    Warning,
}

impl Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A problem: an entry of the catalogue with the values of one occurrence. Displays cause and fix in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    entry: &'static Entry,
    cause: Box<str>,
    fix: Box<str>,
}

impl Entry {
    /// Cause and fix, with the names of their values in braces.
    #[must_use]
    pub fn templates(&self) -> [String; 2] {
        [self.cause, self.fix].map(|text| text.replace("{{", "{").replace("}}", "}"))
    }
}

impl Entry {
    /// Cause and fix of an example.
    #[must_use]
    pub fn example(&self) -> [String; 2] {
        [self.cause, self.fix].map(|template| example::of(self.code, template))
    }
}

impl Problem {
    pub(super) fn new(entry: &'static Entry, cause: String, fix: String) -> Self {
        Self {
            entry,
            cause: without_error_number(cause).into(),
            fix: fix.into(),
        }
    }

    /// What the catalogue says about it.
    #[must_use]
    pub fn entry(&self) -> &'static Entry {
        self.entry
    }

    /// The stable name, in words.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.entry.code
    }

    /// What happened, in one line.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to do, in one line.
    #[must_use]
    pub fn fix(&self) -> &str {
        &self.fix
    }

    /// What a caller may see: on another host, neither file names nor client ids, queues and addresses of proxies.
    #[must_use]
    pub fn for_caller(&self, is_local: bool) -> Self {
        if is_local || !self.entry.is_private {
            return self.clone();
        }
        Self {
            entry: self.entry,
            cause: format!("the problem is {}", self.code()).into(),
            fix: "bondgate's log, and `bondgate check --live` on its host, have the cause and the fix".into(),
        }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.fix)
    }
}

impl std::error::Error for Problem {}

/// A text without the numbers that Rust adds to the system's reasons: " (os error 2)".
#[must_use]
pub fn without_error_number(mut text: String) -> String {
    const NUMBER: &str = " (os error ";
    while let Some(start) = text.find(NUMBER) {
        let Some(length) = text[start..].find(')') else {
            break;
        };
        text.replace_range(start..=start + length, "");
    }
    text
}

/// Whether a value with this name is for the operator alone.
pub(super) const fn is_private(fields: &[&str]) -> bool {
    let mut index = 0;
    while index < fields.len() {
        if matches!(
            fields[index].as_bytes(),
            b"file" | b"directory" | b"source" | b"client_id" | b"proxy" | b"queue"
        ) {
            return true;
        }
        index += 1;
    }
    false
}

/// Defines the problems of an area: for each a function that makes it, and its entry in `ENTRIES`. The compiler checks that
/// cause and fix name only arguments of the function.
macro_rules! problems {
    (
        area $area:ident;
        $(
            $name:ident($($field:ident),*) $code:literal $severity:ident
            cause $cause:literal
            fix $fix:literal
            explanation $explanation:literal
            $(hides $($hidden:literal)+)?;
        )+
    ) => {
        $(
            #[doc = concat!("`", $code, "`")]
            #[must_use]
            pub fn $name($($field: impl std::fmt::Display),*) -> $crate::problems::Problem {
                $(let _ = &$field;)*
                $crate::problems::Problem::new(&entries::$name, format!($cause), format!($fix))
            }
        )+

        pub(super) const ENTRIES: &[&$crate::problems::Entry] = &[$(&entries::$name),+];

        #[expect(non_upper_case_globals, reason = "an entry has the name of its function")]
        mod entries {
            use $crate::problems::entry::is_private;
            use $crate::problems::{Area, Entry, Severity};

            $(
                pub(super) static $name: Entry = Entry {
                    code: $code,
                    area: Area::$area,
                    severity: Severity::$severity,
                    cause: $cause,
                    fix: $fix,
                    explanation: $explanation,
                    hides: &[$($($hidden),+)?],
                    is_private: is_private(&[$(stringify!($field)),*]),
                };
            )+
        }
    };
}

pub(super) use problems;

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::{machine, network, outbound_proxy, spool};

    #[test]
    fn a_reason_of_the_system_has_no_number() {
        let error = io::Error::from_raw_os_error(2);
        let text = error.to_string().replace(" (os error 2)", "");
        let problem = machine::spool_unusable("/spool", format!("{error}, {error}"));
        assert!(
            problem.cause().ends_with(&format!("({text}, {text})")),
            "{problem}"
        );
    }

    #[test]
    fn a_caller_on_another_host_sees_no_queue() {
        let problem = spool::locked("api.example/pull for client id");
        assert!(!problem.for_caller(false).to_string().contains("api.example"));
    }

    #[test]
    fn a_caller_on_another_host_sees_no_address_of_a_proxy() {
        let problem = outbound_proxy::not_http("proxy.corp:3128");
        assert!(problem.to_string().contains("proxy.corp:3128"));
        assert!(!problem.for_caller(false).to_string().contains("proxy.corp"));
        assert!(problem.for_caller(false).to_string().contains("proxy-not-http"));
        let problem = network::name_not_found("API", "api.example");
        assert_eq!(problem.for_caller(false), problem);
    }
}
