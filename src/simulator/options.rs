//! How a simulator is set up: from code through [`Options`], or by the options of `bondgate simulate`.
//!
//! The enums are choices where Cisco's services are known to differ, or where nothing is published.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::ParseIntError;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum};

/// The setup of a simulator.
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// Address of the simulated Cisco; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    pub listen: SocketAddr,

    /// Address of the control API (plain HTTP: messages, faults, recorded requests); a loopback address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8444")]
    pub control: SocketAddr,

    /// A further name in the server certificate, beside localhost and the loopback addresses; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,

    /// Client credentials to accept; may be repeated. Each client has its own message queue
    #[arg(long = "client", value_name = "ID:SECRET", default_value = "demo:demo-secret", value_parser = client)]
    pub clients: Vec<Client>,

    /// Lifetime of a token, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "3599", value_parser = seconds)]
    pub token_lifetime: Duration,

    /// How many times faster than real time tokens expire
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clock_speed: u32,

    /// Approximate size of a token; below 800 it is an opaque string instead of a JWT
    #[arg(long, value_name = "BYTES", default_value_t = 1100, value_parser = RangedU64ValueParser::<usize>::new().range(16..=60_000))]
    pub token_bytes: usize,

    /// The expires_in of token responses, as JSON: "\"3599\"", -1, null; or "lifetime" for the whole seconds left,
    /// "missing", or "rounded-up", so that a token expires up to a second earlier than its response states
    #[arg(
        long,
        value_name = "JSON",
        default_value = "lifetime",
        allow_hyphen_values = true
    )]
    pub expires_in: ExpiresIn,

    /// The status for an unknown client id
    #[arg(long, value_name = "STATUS", value_enum, default_value_t)]
    pub unknown_client: UnknownClient,

    /// Whether a client that asks again gets the same token until it expires, with expires_in counted down to 0
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub token_reuse: TokenReuse,

    /// What happens to a client's older tokens when it gets a new one
    #[arg(long, value_name = "FATE", value_enum, default_value_t)]
    pub older_tokens: OlderTokens,

    /// The response to a missing, expired or revoked token
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t)]
    pub bearer_rejection: BearerRejection,

    /// The response to a pull from an empty queue
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t)]
    pub empty_queue: EmptyQueue,
}

/// The defaults of the command line, on free ports.
impl Default for Options {
    fn default() -> Self {
        Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            control: (Ipv4Addr::LOCALHOST, 0).into(),
            ..Options::parse_from([""])
        }
    }
}

/// Client credentials that the simulator accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The `client_id`.
    pub id: String,
    /// The `client_secret`.
    pub secret: String,
}

fn client(text: &str) -> Result<Client, &'static str> {
    match text.split_once(':') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => Ok(Client {
            id: id.to_owned(),
            secret: secret.to_owned(),
        }),
        _ => Err("write the client id, a colon and the secret"),
    }
}

fn seconds(text: &str) -> Result<Duration, ParseIntError> {
    Ok(Duration::from_secs(text.parse::<u32>()?.into()))
}

/// The `expires_in` of a token response. In the field it is also missing, a string, or absurd.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ExpiresIn {
    /// The whole seconds left of the lifetime, as a number; 0 in the last second.
    #[default]
    Lifetime,
    /// The same rounded up: the token expires up to a second earlier than the response states.
    RoundedUp,
    /// No such member.
    Missing,
    /// This text in place of the number; it need not be JSON.
    Raw(String),
}

impl From<&str> for ExpiresIn {
    fn from(text: &str) -> Self {
        match text {
            "lifetime" => ExpiresIn::Lifetime,
            "rounded-up" => ExpiresIn::RoundedUp,
            "missing" => ExpiresIn::Missing,
            raw => ExpiresIn::Raw(raw.to_owned()),
        }
    }
}

/// The status for an unknown client id; the body is Okta's in both cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum UnknownClient {
    /// 400, as observed after the move from PingFederate to Okta.
    #[default]
    BadRequest,
    /// 401.
    Unauthorized,
}

/// Which token a client gets that already has a valid one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TokenReuse {
    /// A new one.
    #[default]
    Never,
    /// The same one until it expires, revoked or not, like identity services that cache tokens.
    UntilExpiry,
}

/// What happens to a client's older tokens when it gets a new one; Cisco does not document it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OlderTokens {
    /// They stay valid until they expire.
    #[default]
    Stay,
    /// They are revoked.
    Revoked,
}

/// The response to a missing, expired, revoked or repeated bearer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum BearerRejection {
    /// 401 with a JSON message, as assumed of the Smart Bonding API.
    #[default]
    Unauthorized,
    /// 403 with `X-Mashery-Error-Code: ERR_403_NOT_AUTHORIZED`, like Cisco's support APIs.
    Mashery,
}

/// The response to a pull from an empty queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum EmptyQueue {
    /// 200 with `No messages available to Send`.
    #[default]
    Message,
    /// 204 without a body, as in earlier versions.
    NoContent,
}
