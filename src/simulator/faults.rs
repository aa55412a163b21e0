//! The script of faults: what goes wrong, on which requests and how often, for tests and for people who want to see
//! their client fail.
//!
//! A request takes the first fault of the script that is meant for it. As JSON a fault reads
//! `{"on":"pull","times":2,"kind":{"status":{"code":503}},"after_effect":true}`; all but the kind may be left out.

use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::locked;
use super::record::Endpoint;

/// How many faults a script holds.
pub(super) const SCRIPT_LIMIT: usize = 10_000;

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The requests that it strikes.
    #[serde(default)]
    pub on: On,
    /// How many requests it strikes.
    #[serde(default)]
    pub times: Times,
    /// What happens to them.
    pub kind: Kind,
    /// The request is obeyed first: a pull takes its message off the queue, and then its answer is lost.
    /// Kinds that spoil the real answer always have the effect.
    #[serde(default)]
    pub after_effect: bool,
    /// A kind that takes the answer's place does so when the request's head has been read, not its body.
    #[serde(default)]
    pub early: bool,
}

impl Fault {
    /// A fault that strikes one request.
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

    /// It strikes so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        let times = Times::Count(times);
        Fault { times, ..self }
    }

    /// It strikes until the script is cleared.
    #[must_use]
    pub fn forever(self) -> Self {
        let times = Times::Forever;
        Fault { times, ..self }
    }

    /// The request is obeyed first.
    #[must_use]
    pub fn after_effect(self) -> Self {
        Fault {
            after_effect: true,
            ..self
        }
    }

    /// The body is not waited for.
    #[must_use]
    pub fn early(self) -> Self {
        Fault { early: true, ..self }
    }
}

/// The requests that a fault strikes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
    /// Requests for this path, whatever their query.
    Path(String),
}

impl On {
    fn includes(&self, endpoint: Endpoint, path: &str) -> bool {
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

impl TryFrom<String> for On {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "any" => Ok(On::Any),
            "token" => Ok(On::Token),
            "push" => Ok(On::Push),
            "pull" => Ok(On::Pull),
            "tspcodes" => Ok(On::TspCodes),
            _ if word.starts_with('/') => Ok(On::Path(word)),
            _ => Err(format!(
                "\"on\" is {word:?}: use any, token, push, pull, tspcodes or a path that begins with /"
            )),
        }
    }
}

impl From<On> for String {
    fn from(on: On) -> Self {
        match on {
            On::Any => "any".to_owned(),
            On::Token => "token".to_owned(),
            On::Push => "push".to_owned(),
            On::Pull => "pull".to_owned(),
            On::TspCodes => "tspcodes".to_owned(),
            On::Path(path) => path,
        }
    }
}

/// How many requests a fault strikes; one, if nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// So many.
    Count(u32),
    /// All, until the script is cleared.
    Forever,
}

impl Default for Times {
    fn default() -> Self {
        Times::Count(1)
    }
}

impl Serialize for Times {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Times::Count(count) => serializer.serialize_u32(*count),
            Times::Forever => serializer.serialize_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for Times {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match value.as_u64().map(u32::try_from) {
            Some(Ok(count @ 1..)) => Ok(Times::Count(count)),
            _ if value == "forever" => Ok(Times::Forever),
            _ => Err(de::Error::custom(format!(
                "\"times\" is {value}: use a number from 1 on, or \"forever\""
            ))),
        }
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// It waits before it is obeyed; with `after_effect`, after it was.
    Slow {
        /// Milliseconds.
        ms: u64,
    },
    /// It is never answered; the connection stays until the client leaves.
    Hang,
    /// The connection is reset.
    Reset,
    /// The connection is closed in good order, without an answer.
    Close,
    /// It gets this answer.
    Status {
        /// From 200 to 999.
        #[serde(deserialize_with = "final_status", serialize_with = "status_as_number")]
        code: StatusCode,
        /// Header lines, in JSON as `[["Name","value"]]`.
        #[serde(
            default,
            deserialize_with = "header_lines",
            serialize_with = "headers_as_lines"
        )]
        headers: HeaderMap,
        /// The body.
        #[serde(default)]
        body: String,
    },
    /// It gets a gateway's error page.
    Html {
        /// From 200 to 999.
        #[serde(deserialize_with = "final_status", serialize_with = "status_as_number")]
        status: StatusCode,
    },
    /// It gets 200 and an empty body.
    Empty,
    /// It gets the first half of its answer's body, as if that were all.
    TruncatedJson,
    /// It gets the complete head of its answer and half of the body.
    Half {
        /// What happens then.
        then: Then,
    },
    /// It gets 429 with Okta's rate limit headers.
    RateLimited {
        /// The `Retry-After`, in seconds, if there is to be one.
        #[serde(default)]
        retry_after: Option<u64>,
        /// In how many seconds `X-Rate-Limit-Reset` is, which is a time of day.
        reset_in: u64,
    },
    /// The token reply has no `access_token`.
    NoAccessToken,
    /// The token in the token reply holds characters that no header can.
    BadToken,
    /// These bytes take the answer's place on the connection, which is then closed. They need not be HTTP.
    Raw {
        /// The bytes; in JSON, text.
        #[serde(deserialize_with = "text_bytes", serialize_with = "bytes_as_text")]
        bytes: Bytes,
    },
}

impl Kind {
    /// An answer with this status and a message as Cisco writes it.
    #[must_use]
    pub fn status(code: StatusCode) -> Self {
        let body = serde_json::json!({"message": "Simulated fault", "status": code.as_str()});
        Kind::Status {
            code,
            headers: HeaderMap::from_iter([(
                http::header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )]),
            body: body.to_string(),
        }
    }

    /// The kind's name, as in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Slow { .. } => "slow",
            Kind::Hang => "hang",
            Kind::Reset => "reset",
            Kind::Close => "close",
            Kind::Status { .. } => "status",
            Kind::Html { .. } => "html",
            Kind::Empty => "empty",
            Kind::TruncatedJson => "truncated_json",
            Kind::Half { .. } => "half",
            Kind::RateLimited { .. } => "rate_limited",
            Kind::NoAccessToken => "no_access_token",
            Kind::BadToken => "bad_token",
            Kind::Raw { .. } => "raw",
        }
    }
}

/// What follows half a body.
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

/// The faults to come, in order.
#[derive(Debug, Default)]
pub(super) struct Script(Mutex<Vec<Fault>>);

impl Script {
    /// Adds to the script, unless it is full.
    pub(super) fn add(&self, fault: Fault) -> bool {
        let mut faults = locked(&self.0);
        let room = faults.len() < SCRIPT_LIMIT;
        if room && fault.times != Times::Count(0) {
            faults.push(fault);
        }
        room
    }

    pub(super) fn clear(&self) {
        locked(&self.0).clear();
    }

    /// What is left of the script.
    pub(super) fn list(&self) -> Vec<Fault> {
        locked(&self.0).clone()
    }

    /// The fault that strikes a request, counted off.
    pub(super) fn take(&self, endpoint: Endpoint, path: &str) -> Option<Fault> {
        let mut faults = locked(&self.0);
        let at = faults
            .iter()
            .position(|fault| fault.on.includes(endpoint, path))?;
        match &mut faults[at].times {
            Times::Forever => Some(faults[at].clone()),
            Times::Count(count @ 2..) => {
                *count -= 1;
                Some(faults[at].clone())
            }
            Times::Count(_) => Some(faults.remove(at)),
        }
    }
}

fn final_status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let code = u16::deserialize(deserializer)?;
    StatusCode::from_u16(code)
        .ok()
        .filter(|code| code.as_u16() >= 200)
        .ok_or_else(|| de::Error::custom(format!("the status {code} ends no answer: use 200 to 999")))
}

fn header_lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderMap, D::Error> {
    let lines = Vec::<(String, String)>::deserialize(deserializer)?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            _ => {
                return Err(de::Error::custom(format!(
                    "{name:?}: {value:?} is no header line: for what HTTP forbids use the kind raw"
                )));
            }
        }
    }
    Ok(headers)
}

fn text_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    String::deserialize(deserializer).map(Bytes::from)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn status_as_number<S: Serializer>(code: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(code.as_u16())
}

fn headers_as_lines<S: Serializer>(headers: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|(name, value)| {
        (
            name.as_str(),
            String::from_utf8_lossy(value.as_bytes()).into_owned(),
        )
    }))
}

fn bytes_as_text<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(bytes))
}
