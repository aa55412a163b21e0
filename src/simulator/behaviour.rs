//! The choices where Cisco's services are known to differ, or nothing is published, for those who set up a simulator.

use clap::ValueEnum;

/// How the simulator answers where more than one answer has been seen in the wild.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// What a token reply says of its lifetime.
    pub expires_in: ExpiresIn,
    /// Whose credentials the identity service knows.
    pub tenant: Tenant,
    /// What an unknown client id gets.
    pub unknown_client: UnknownClient,
    /// Which token a client gets that still has one.
    pub token_reuse: TokenReuse,
    /// What becomes of a client's older tokens when it is issued a new one.
    pub older_tokens: OlderTokens,
    /// How the API refuses a bearer.
    pub bearer_rejection: BearerRejection,
    /// How a pull from an empty queue is answered.
    pub empty_queue: EmptyQueue,
}

/// The `expires_in` of a token reply. It is missing, a string, or absurd in the wild.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ExpiresIn {
    /// What is left of the lifetime in whole seconds, as a number; 0 in the last second.
    #[default]
    Lifetime,
    /// The same rounded up: the token expires up to a second before its reply says so.
    RoundedUp,
    /// No such member.
    Missing,
    /// This text where the number would stand; it is not checked to be JSON.
    Raw(String),
}

impl From<serde_json::Value> for ExpiresIn {
    fn from(value: serde_json::Value) -> Self {
        ExpiresIn::Raw(value.to_string())
    }
}

/// Which environment's credentials the identity service knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Tenant {
    /// The callers': the clients it was given are known.
    #[default]
    Own,
    /// Another's, as prod for stage credentials: every client is unknown.
    Other,
}

/// What an unknown client id gets: the same body of Okta's, under either status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum UnknownClient {
    /// 400, as seen after the move from PingFederate to Okta.
    #[default]
    BadRequest,
    /// 401.
    Unauthorized,
}

/// Which token a client gets that asks while an earlier token of its is good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TokenReuse {
    /// A new one.
    #[default]
    Never,
    /// The same one until it expires, revoked or not, as identity services do that cache tokens.
    UntilExpiry,
}

/// What becomes of a client's older tokens when it is issued a new one; Cisco says nothing about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OlderTokens {
    /// They stay good until they expire.
    #[default]
    Stay,
    /// They are revoked.
    Revoked,
}

/// How the API refuses a missing, expired, revoked or doubled bearer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum BearerRejection {
    /// 401 with a JSON message, as assumed of the Smart Bonding API.
    #[default]
    Unauthorized,
    /// 403 with `X-Mashery-Error-Code: ERR_403_NOT_AUTHORIZED`, as Cisco's support APIs do.
    Mashery,
}

/// How a pull from an empty queue is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum EmptyQueue {
    /// 200 with `No messages available to Send`.
    #[default]
    Message,
    /// 204 without a body, as formerly.
    NoContent,
}
