//! The script of faults: what goes wrong, for which requests and how often.
//!
//! A request takes the first fault of the script that matches it. In JSON a fault is
//! `{"on":"pull","times":2,"kind":{"status":{"code":503}},"after_effect":true}`; only the kind is required.

pub(super) mod inject;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::cisco::endpoint::Endpoint;
use super::record::as_text;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The requests that it matches.
    #[serde(default)]
    pub on: On,
    /// How many requests it is injected into.
    #[serde(default)]
    pub times: Times,
    /// What happens to them.
    pub kind: Kind,
    /// The request is executed first: a pull takes its message off the queue, and then its response is lost.
    /// Kinds that alter the real response always execute the request.
    #[serde(default)]
    pub after_effect: bool,
    /// A kind that replaces the response does so once the request's head has been read, not its body.
    #[serde(default)]
    pub early: bool,
}

impl Fault {
    /// A fault for one request.
    #[must_use]
    pub fn on(on: On, kind: Kind) -> Self {
        Fault {
            on,
            times: Times::default(),
            kind,
            after_effect: false,
            early: false,
        }
    }

    /// Inject it into `count` requests.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.times = Times::Count(count);
        self
    }

    /// Inject it until the script is cleared.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.times = Times::Forever;
        self
    }

    /// Execute the request first.
    #[must_use]
    pub fn after_effect(mut self) -> Self {
        self.after_effect = true;
        self
    }

    /// Do not wait for the request's body.
    #[must_use]
    pub fn early(mut self) -> Self {
        self.early = true;
        self
    }

    /// Parses and validates a fault of the control API.
    pub(super) fn parse(json: &Value) -> Result<Self, String> {
        let fault = Fault::deserialize(json).map_err(|error| error.to_string())?;
        let error = match (&fault.on, fault.times, &fault.kind) {
            (On::Path(path), ..) if !path.starts_with('/') => {
                "\"on\" is not any, token, push, pull, tspcodes or a path that begins with /"
            }
            (_, Times::Count(0), _) => "\"times\" is 0: use a number from 1, or \"forever\"",
            (.., Kind::Status { code: ..200, .. } | Kind::Html { status: ..200 }) => {
                "a status must be 200 to 999"
            }
            (.., Kind::Status { code, headers, body }) if response(*code, headers, body).is_err() => {
                "the status or a header is invalid: for what HTTP forbids use the kind raw"
            }
            _ => return Ok(fault),
        };
        Err(error.to_owned())
    }
}

/// The requests that a fault matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// Every request.
    #[default]
    Any,
    /// Token requests.
    Token,
    /// Pushes.
    Push,
    /// Pulls.
    Pull,
    /// Requests for the TSP codes.
    TspCodes,
    /// Requests for this path, with any query.
    #[serde(untagged)]
    Path(String),
}

impl On {
    fn matches(&self, endpoint: Endpoint, path: &str) -> bool {
        match self {
            On::Any => true,
            On::Token => endpoint == Endpoint::Token,
            On::Push => endpoint == Endpoint::Push,
            On::Pull => endpoint == Endpoint::Pull,
            On::TspCodes => endpoint == Endpoint::TspCodes,
            On::Path(wanted) => wanted == path,
        }
    }
}

/// How many requests a fault is injected into; one by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "lowercase",
    expecting = "\"times\" must be a number from 1, or \"forever\""
)]
pub enum Times {
    /// All, until the script is cleared.
    Forever,
    /// This many.
    #[serde(untagged)]
    Count(u32),
}

impl Default for Times {
    fn default() -> Self {
        Times::Count(1)
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// It waits before it is executed; with `after_effect`, afterwards.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// It gets no response; the connection stays open until the client leaves.
    Hang,
    /// The connection is reset.
    Reset,
    /// The connection is closed without a response.
    Close,
    /// It gets this response.
    Status {
        /// From 200 to 999.
        code: u16,
        /// Header lines.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body.
        #[serde(default)]
        body: String,
    },
    /// It gets the error page of a gateway.
    Html {
        /// From 200 to 999.
        status: u16,
    },
    /// It gets 200 and an empty body.
    Empty,
    /// It gets the first half of the response's body, as if that were all.
    TruncatedJson,
    /// It gets the complete head of the response and half of the body.
    Half {
        /// What happens then.
        then: Then,
    },
    /// It gets 429 with Okta's rate limit headers.
    RateLimited {
        /// The `Retry-After` in seconds, if any.
        #[serde(default)]
        retry_after: Option<u64>,
        /// `X-Rate-Limit-Reset`, which is a time of day, lies this many seconds ahead.
        reset_in: u64,
    },
    /// The token response has no `access_token`.
    NoAccessToken,
    /// The token in the token response holds characters that no header can.
    BadToken,
    /// These bytes replace the response, and the connection is closed. They need not be HTTP.
    Raw {
        /// The bytes; text in JSON.
        #[serde(deserialize_with = "text", serialize_with = "as_text")]
        bytes: Bytes,
    },
}

impl Kind {
    /// A response with this status and a message in Cisco's shape.
    #[must_use]
    pub fn status(code: StatusCode) -> Self {
        Kind::Status {
            code: code.as_u16(),
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: format!(r#"{{"message":"Simulated fault","status":"{}"}}"#, code.as_str()),
        }
    }

    /// The kind's name in JSON, for the record.
    fn name(&self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::String(name)) => name,
            Ok(Value::Object(kind)) => kind.into_iter().map(|(name, _)| name).collect(),
            _ => String::new(),
        }
    }
}

/// The end of a connection after half a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The connection is reset.
    Reset,
    /// The connection is closed.
    Close,
    /// Nothing, until the client leaves.
    Hang,
}

/// The script's first fault for a request; its count is decremented.
fn take(script: &mut Vec<Fault>, endpoint: Endpoint, path: &str) -> Option<Fault> {
    let at = script.iter().position(|fault| fault.on.matches(endpoint, path))?;
    if let Times::Count(left) = &mut script[at].times {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return Some(script.remove(at));
        }
    }
    Some(script[at].clone())
}

fn response(code: u16, headers: &[(String, String)], body: &str) -> Result<Response, http::Error> {
    let builder = headers
        .iter()
        .fold(Response::builder().status(code), |builder, (name, value)| {
            builder.header(name, value)
        });
    builder.body(Body::from(body.to_owned()))
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    String::deserialize(deserializer).map(Bytes::from)
}
