//! The configuration as types, for every other module: it comes out right or not at all.
//!
//! A value is looked for in the environment, then the file, then the upstream's preset, then the
//! defaults; each remembers where it was found.

mod address;
mod callers;
mod descriptors;
mod environment;
mod exposure;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod listener;
mod load;
mod name;
mod outbound;
mod preset;
mod rule;
mod secret;
mod section;
mod together;
mod tree;
mod unit;
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use self::address::{Endpoint, ListenAddress, Network};
pub use self::callers::{CallerKey, CallerKeys, KeysError};
pub use self::files::NamedFile;
pub use self::listener::{Access, Admin, Listener, ServerTls};
pub use self::load::{ConfigError, find_file};
pub use self::name::{HostPattern, WebOrigin};
pub use self::outbound::{OutboundError, OutboundProxy, ProxyRoute};
pub use self::rule::{PathPattern, Rule, Rules};
pub use self::secret::{SecretError, SecretSource};
pub use self::section::{Fault, Setting};
pub use self::together::PAGES_MAY_PULL;
pub use self::tree::Origin;
pub use self::upstream::{ClientAuth, Timeouts, Upstream};

use self::section::{Section, Written};
use self::unit::{Size, Span};

/// Everything that one daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The APIs, each with its own credentials and token.
    pub upstreams: Vec<Upstream>,
    /// Where callers come in.
    pub listeners: Vec<Listener>,
    /// Where status, health and metrics are.
    pub admin: Admin,
    /// Workers and stop.
    pub server: Server,
    /// Bounds on callers.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// Where pulled messages are kept.
    pub spool: Spool,
    /// Every value in force with its origin, secrets redacted.
    pub settings: Vec<Setting>,
    /// What works and should be known.
    pub warnings: Vec<String>,
}

/// Workers and stop.
#[derive(Clone, Debug)]
pub struct Server {
    /// Worker threads; 0 takes one a core, at most 4.
    pub workers: usize,
    /// The whole time that a stop may take.
    pub drain: Duration,
    /// The part of it at the start in which callers are told and still served.
    pub lame_duck: Duration,
    /// Whether a configuration file that changed is read again by itself.
    pub watch: bool,
    /// Whether the daemon gives up what it has no use for, where the system can do that.
    pub sandbox: bool,
}

/// Bounds on callers, over all listeners.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request's head: 431 beyond.
    pub head: usize,
    /// Fields of a request's head: 431 beyond.
    pub fields: usize,
    /// Bytes of a request's target as it is sent on: 414 beyond.
    pub target: usize,
    /// Bytes of a request's body, 0 for no bound: 413 beyond.
    pub body: u64,
    /// How long the first byte may take, and then the rest of the head: 408 beyond.
    pub first_byte: Duration,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// How long a caller may take nothing of its answer, or the rest of a body go nowhere behind one.
    pub stall: Duration,
    /// Connections at once: beyond, the longest idle one is closed, or 503.
    pub connections: usize,
    /// Connections beside them that are told so; no key, it goes by the descriptors that there are.
    pub refusals: usize,
    /// Requests at once: 503 beyond.
    pub in_flight: usize,
    /// Requests at once from one caller, 0 for no fixed bound: 503 beyond.
    pub per_caller: usize,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Log {
    /// A level, or levels by module (`bondgate=debug,hyper=info`).
    pub level: String,
    /// Text for people, JSON for machines.
    pub format: LogFormat,
    /// Appended to, in place of standard error.
    pub file: Option<PathBuf>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Where pulled messages are kept until somebody has them.
#[derive(Clone, Debug)]
pub struct Spool {
    /// The directory; in memory without one.
    pub directory: Option<PathBuf>,
    /// Messages that it may hold: nothing is pulled beyond.
    pub messages: usize,
    /// Bytes that it may hold on disk: nothing is pulled beyond.
    pub bytes: u64,
    /// Bytes that it may hold in memory.
    pub memory: u64,
    /// How long a delivered message is retained on disk.
    pub keep: Duration,
    /// Bytes that may be retained on disk.
    pub keep_bytes: u64,
    /// How long a connection has to be silent after a message for the message to count as delivered.
    pub settle: Duration,
    /// How long a message is paused for a caller after its first failed delivery, its second, and so on.
    pub pauses: Vec<Duration>,
}

impl Written for LogFormat {
    const FORM: &'static str = "text or json, in quotes";
}

impl Server {
    fn read(mut section: Section<'_>) -> Self {
        let server = Self {
            workers: section.or("workers", "0"),
            drain: section.or::<Span>("drain", "\"25s\"").0,
            lame_duck: section.or::<Span>("lame_duck", "\"2s\"").0,
            watch: section.or("watch", "false"),
            sandbox: section.or("sandbox", "true"),
        };
        if server.lame_duck > server.drain {
            section.fault("lame_duck", "is longer than drain, which it is a part of");
        }
        section.finish();
        server
    }
}

impl Limits {
    fn read(mut section: Section<'_>) -> Self {
        let mut bytes =
            |key, default| usize::try_from(section.or::<Size>(key, default).0).unwrap_or(usize::MAX);
        let (head, target) = (bytes("head", "\"64KiB\""), bytes("target", "\"8KiB\""));
        let limits = Self {
            head,
            fields: section.or("fields", "100"),
            target,
            body: section.or::<Size>("body", "\"0\"").0,
            first_byte: section.or::<Span>("first_byte", "\"10s\"").0,
            keep_alive: section.or::<Span>("keep_alive", "\"5m\"").0,
            stall: section.or::<Span>("stall", "\"60s\"").0,
            connections: section.or("connections", "8192"),
            refusals: 64,
            in_flight: section.or("in_flight", "2048"),
            per_caller: section.or("per_caller", "0"),
        };
        for (key, value) in [
            ("head", limits.head),
            ("fields", limits.fields),
            ("target", limits.target),
            ("connections", limits.connections),
            ("in_flight", limits.in_flight),
            ("stall", usize::from(!limits.stall.is_zero())),
        ] {
            if value == 0 {
                section.fault(
                    key,
                    "is 0, which lets nothing through; leave it out for the default",
                );
            }
        }
        for (key, value, most) in [
            ("fields", limits.fields, MAX_FIELDS),
            ("target", limits.target, MAX_TARGET),
            ("head", limits.head, MAX_HEAD),
        ] {
            if value > most {
                section.fault(key, format!("is over {most}, the most there can be"));
            }
        }
        section.finish();
        limits
    }
}

/// The largest `limits.fields`: heads are parsed into a table of this size.
pub const MAX_FIELDS: usize = 256;

/// The largest `limits.target`: what the HTTP library reads.
const MAX_TARGET: usize = 65_534;
/// The largest `limits.head`: each connection may hold that much.
const MAX_HEAD: usize = 16 << 20;

impl Log {
    fn read(mut section: Section<'_>) -> Self {
        let log = Self {
            level: section.or("level", "\"info\""),
            format: section.or("format", "\"text\""),
            file: section.optional("file"),
        };
        section.finish();
        log
    }
}

impl Spool {
    fn read(mut section: Section<'_>) -> Self {
        let spool = Self {
            directory: section.optional("directory"),
            messages: section.or("messages", "10000"),
            bytes: section.or::<Size>("bytes", "\"1GiB\"").0,
            memory: section.or::<Size>("memory", "\"64MiB\"").0,
            keep: section.or::<Span>("keep", "\"24h\"").0,
            keep_bytes: section.or::<Size>("keep_bytes", "\"1GiB\"").0,
            settle: section.or::<Span>("settle", "\"4s\"").0,
            pauses: section
                .or::<Vec<Span>>("pauses", "[\"0s\", \"1s\", \"5s\", \"30s\", \"2m\", \"10m\"]")
                .into_iter()
                .map(|span| span.0)
                .collect(),
        };
        if spool.settle.is_zero() {
            section.fault(
                "settle",
                "is 0, and a caller that breaks off would not be noticed; leave it out for the default",
            );
        }
        if spool.pauses.is_empty() {
            section.fault("pauses", "is empty; leave it out for the default");
        }
        for (key, is_zero) in [
            ("messages", spool.messages == 0),
            ("bytes", spool.bytes == 0),
            ("memory", spool.memory == 0),
        ] {
            if is_zero {
                section.fault(
                    key,
                    "is 0, and nothing could be pulled; leave it out for the default",
                );
            }
        }
        section.finish();
        spool
    }
}
