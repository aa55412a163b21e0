//! What a pulled message belongs to: a message of one queue never answers a pull of another.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A queue at an upstream, as far as a proxy can tell queues apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Host and port of the upstream: a message of stage is none of prod.
    pub authority: String,
    /// The client that it was pulled for.
    pub client_id: String,
    /// The path that it was pulled by, without its query.
    pub route: String,
}

impl Key {
    /// The name of its folder: the same for the same key, whatever the key holds.
    pub(super) fn folder(&self) -> String {
        let mut digest = Sha256::new();
        for part in [&self.authority, &self.client_id, &self.route] {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        digest.finalize()[..8]
            .iter()
            .fold(String::with_capacity(16), |mut name, byte| {
                let _ = write!(name, "{byte:02x}");
                name
            })
    }

    /// Whether a name is that of some key's folder.
    pub(super) fn is_folder(name: &str) -> bool {
        name.len() == 16 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{} for client {}",
            self.authority, self.route, self.client_id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(authority: &str, client_id: &str, route: &str) -> Key {
        Key {
            authority: authority.into(),
            client_id: client_id.into(),
            route: route.into(),
        }
    }

    #[test]
    fn keys_that_differ_in_any_part_have_folders_of_their_own() {
        let one = key("stage.example", "id", "/pull");
        assert_eq!(one.folder(), one.clone().folder());
        assert!(Key::is_folder(&one.folder()));
        assert!(!Key::is_folder("lost+found"));
        for other in [
            key("prod.example", "id", "/pull"),
            key("stage.example", "id2", "/pull"),
            key("stage.example", "id", "/pull2"),
            key("stage.examplei", "d", "/pull"),
        ] {
            assert_ne!(one.folder(), other.folder(), "{other}");
        }
    }
}
