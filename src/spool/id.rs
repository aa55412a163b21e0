//! The names of queues and messages.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::config::Endpoint;

/// A queue at an upstream. A message is delivered only to requests for its own queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QueueId {
    /// Host and port of the upstream.
    pub authority: String,
    /// The client that pulls.
    pub client_id: String,
    /// The path of the pull, without its query.
    pub route: String,
}

/// A message of a queue: the time of its pull in microseconds since 1970, increased where another message has that id.
/// Ids order the messages of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl QueueId {
    /// The queue that a request with this path names.
    #[must_use]
    pub fn of(api: &Endpoint, client_id: String, path: &str) -> Self {
        Self {
            authority: api.authority().to_string(),
            client_id,
            route: format!("{}{path}", api.path().trim_end_matches('/')),
        }
    }

    /// Parses a queue as it is displayed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (place, client_id) = text.split_once(BEFORE_CLIENT)?;
        let (authority, route) = place.split_at(place.find('/')?);
        let is_whole = !authority.is_empty() && !client_id.is_empty();
        is_whole.then(|| Self {
            authority: authority.to_owned(),
            client_id: client_id.to_owned(),
            route: route.to_owned(),
        })
    }

    /// The name of its folder: 16 hexadecimal digits of a hash.
    pub(super) fn folder(&self) -> String {
        let mut digest = Sha256::new();
        for part in [&self.authority, &self.client_id, &self.route] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        format!("{:.16x}", digest.finalize())
    }

    /// Whether a name is that of a queue's folder.
    pub(super) fn is_folder(name: &str) -> bool {
        name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

/// Stands before the client id where a queue is displayed; no host or path has a space.
const BEFORE_CLIENT: &str = " for client ";

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            authority,
            client_id,
            route,
        } = self;
        write!(f, "{authority}{route}{BEFORE_CLIENT}{client_id}")
    }
}

impl MessageId {
    /// Now, and later than `last`, whatever the clock says.
    #[must_use]
    pub fn now(last: Option<Self>) -> Self {
        let next = last.map_or(0, |last| last.0 + 1);
        Self::at(SystemTime::now()).max(Self(next))
    }

    fn at(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    #[cfg(test)]
    pub(super) fn for_test(id: u64) -> Self {
        Self(id)
    }

    /// The time of the pull.
    #[must_use]
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(self.0)
    }

    /// The time of the pull in seconds since 1970.
    #[allow(clippy::cast_precision_loss)] // Microseconds are exact for another 260 years.
    pub(super) fn seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Parses the 16 digits of a file name, which suffice for another 260 years.
    pub(super) fn parse(digits: &str) -> Option<Self> {
        (digits.len() == 16).then(|| digits.parse().ok().map(Self))?
    }

    /// The 16 digits of a file name.
    pub(super) fn digits(self) -> String {
        format!("{:016}", self.0)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_micros(self.time()).fmt(f)
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(serde::de::Error::custom)?;
        Ok(Self::at(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(authority: &str, client_id: &str, route: &str) -> QueueId {
        QueueId {
            authority: authority.into(),
            client_id: client_id.into(),
            route: route.into(),
        }
    }

    #[test]
    fn queues_that_differ_in_any_part_have_different_folders() {
        let one = queue("stage.example", "id", "/pull");
        assert_eq!(one.folder(), one.clone().folder());
        assert!(QueueId::is_folder(&one.folder()));
        assert!(!QueueId::is_folder("lost+found"));
        for other in [
            queue("prod.example", "id", "/pull"),
            queue("stage.example", "id2", "/pull"),
            queue("stage.example", "id", "/pull2"),
            queue("stage.examplei", "d", "/pull"),
        ] {
            assert_ne!(one.folder(), other.folder(), "{other}");
        }
    }

    #[test]
    fn a_queue_is_parsed_as_it_is_displayed() {
        for queue in [
            queue("stage.example:8443", "id", "/a/pull"),
            queue("h", "an id for client x", "/"),
        ] {
            assert_eq!(QueueId::parse(&queue.to_string()), Some(queue));
        }
        for wrong in [
            "",
            "h/pull",
            "/pull for client id",
            "h for client id",
            "h/pull for client ",
        ] {
            assert_eq!(QueueId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_message_id_is_greater_than_the_last_one_even_if_the_clock_went_back() {
        let far = MessageId(9_000_000_000_000_000);
        assert_eq!(MessageId::now(Some(far)), MessageId(far.0 + 1));
        assert!(MessageId::now(None) > MessageId(1_700_000_000_000_000));
        assert_eq!(MessageId::parse(&far.digits()), Some(far));
        let id = MessageId(1_764_080_000_123_456);
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, "\"2025-11-25T14:13:20.123456Z\"");
        assert_eq!(serde_json::from_str::<MessageId>(&text).unwrap(), id);
    }
}
