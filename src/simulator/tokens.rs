//! The access tokens that the identity service has issued, for the API to judge bearers by.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use tokio::sync::watch;

use super::locked;

/// A signature of RS256 with a 2048-bit key.
const SIGNATURE_BYTES: usize = 256;
/// Below this there is no room for a JWT: the token is an opaque word, as Cisco's old ones of 28 characters.
const SMALLEST_JWT: usize = 800;
/// How many tokens are held before the expired ones are dropped.
const PRUNE_AT: usize = 4096;
/// A part of every token, by which it is found wherever it should not be.
pub const TOKEN_MARK: &str = "SimulatedToken";
/// How many issued tokens are remembered, good or not.
pub const TOKENS_KEPT: usize = 4096;

/// Every live token and whom it was issued to.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    live: Mutex<HashMap<String, Issued>>,
    /// The newest token of each client, revoked or not, and when it expires.
    newest: Mutex<HashMap<String, (String, Instant)>>,
    issued: Mutex<VecDeque<String>>,
    count: watch::Sender<usize>,
    refused: AtomicUsize,
    running: AtomicUsize,
    most_running: AtomicUsize,
}

#[derive(Debug)]
struct Issued {
    client: String,
    expires: Instant,
}

impl Tokens {
    /// A new token for `client`, of about `size` bytes, good until `now + lifetime`.
    pub(super) fn issue(&self, client: &str, now: Instant, lifetime: Duration, size: usize) -> String {
        let token = minted(client, lifetime, size);
        let mut issued = locked(&self.issued);
        issued.push_back(token.clone());
        if issued.len() > TOKENS_KEPT {
            issued.pop_front();
        }
        drop(issued);
        // A lifetime past the end of the clock is as good as a day.
        let expires = now
            .checked_add(lifetime)
            .unwrap_or(now + Duration::from_secs(86_400));
        locked(&self.newest).insert(client.to_owned(), (token.clone(), expires));
        let mut live = locked(&self.live);
        if live.len() >= PRUNE_AT {
            live.retain(|_, issued| issued.expires > now);
        }
        live.insert(
            token.clone(),
            Issued {
                client: client.to_owned(),
                expires,
            },
        );
        drop(live);
        self.count.send_modify(|count| *count += 1);
        token
    }

    /// The newest token of `client` and how long it is still good, until it expires.
    pub(super) fn newest_of(&self, client: &str, now: Instant) -> Option<(String, Duration)> {
        let newest = locked(&self.newest);
        let (token, expires) = newest.get(client)?;
        let left = expires.saturating_duration_since(now);
        (!left.is_zero()).then(|| (token.clone(), left))
    }

    /// How many tokens were issued.
    pub(super) fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// The client that `token` was issued to, while it is neither expired nor revoked.
    pub(super) fn client_of(&self, token: &str, now: Instant) -> Option<String> {
        let live = locked(&self.live);
        let issued = live.get(token).filter(|issued| issued.expires > now);
        if issued.is_none() {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        issued.map(|issued| issued.client.clone())
    }

    /// How many times a token was refused for being unknown, expired or revoked.
    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// The tokens issued last, oldest first.
    pub(super) fn issued(&self) -> Vec<String> {
        locked(&self.issued).iter().cloned().collect()
    }

    /// Revokes the tokens of `client`, or of everybody, and says how many they were.
    pub(super) fn revoke(&self, client: Option<&str>) -> usize {
        let mut live = locked(&self.live);
        let before = live.len();
        live.retain(|_, issued| client.is_some_and(|client| issued.client != client));
        before - live.len()
    }

    /// Counts a token request as running until the guard is dropped.
    pub(super) fn enter(&self) -> Running<'_> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_running.fetch_max(running, Ordering::SeqCst);
        Running(self)
    }

    /// The most token requests that ever ran at once.
    pub(super) fn most_running(&self) -> usize {
        self.most_running.load(Ordering::SeqCst)
    }
}

/// One running token request.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a Tokens);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn minted(client: &str, lifetime: Duration, size: usize) -> String {
    if size < SMALLEST_JWT {
        return TOKEN_MARK.to_owned() + &word(size.saturating_sub(TOKEN_MARK.len()).max(8));
    }
    let issued_at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let header = json!({"alg": "RS256", "kid": word(43), "typ": "JWT"}).to_string();
    let claims = |padding: &str| {
        json!({
            "ver": 1,
            "jti": format!("AT.{}", word(43)),
            "iss": "https://localhost/oauth2/default",
            "aud": "api://default",
            "iat": issued_at,
            "exp": issued_at.saturating_add(lifetime.as_secs()),
            "cid": client,
            "sub": client,
            "access": padding,
        })
        .to_string()
    };
    let signature: [u8; SIGNATURE_BYTES] = std::array::from_fn(|_| fastrand::u8(..));
    let encoded = |bytes: usize| (bytes * 4).div_ceil(3);
    let bare = encoded(header.len()) + encoded(claims("").len()) + encoded(SIGNATURE_BYTES) + ".".len() * 2;
    let padding = word(size.saturating_sub(bare) / 4 * 3);
    let mut signature = URL_SAFE_NO_PAD.encode(signature);
    signature.replace_range(..TOKEN_MARK.len(), TOKEN_MARK);
    [
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims(&padding)),
        signature,
    ]
    .join(".")
}

/// A random word of letters and digits.
fn word(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric)
        .take(length)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_looks_like_a_jwt_of_about_the_size_asked_for() {
        for size in [800, 1100, 1500, 8000] {
            let token = minted("demo", HOUR, size);
            assert!(token.len().abs_diff(size) < 8, "{size}: {}", token.len());
            let parts: Vec<_> = token
                .split('.')
                .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
                .collect();
            assert_eq!(parts.len(), 3);
            let header: serde_json::Value = serde_json::from_slice(&parts[0]).unwrap();
            assert_eq!(header["alg"], "RS256");
            let claims: serde_json::Value = serde_json::from_slice(&parts[1]).unwrap();
            assert_eq!(claims["cid"], "demo");
            assert_eq!(parts[2].len(), SIGNATURE_BYTES);
        }
    }

    #[test]
    fn a_small_token_is_an_opaque_word() {
        assert_eq!(minted("demo", HOUR, 28).len(), 28);
    }

    #[test]
    fn a_token_ends_with_its_lifetime() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let token = tokens.issue("demo", now, HOUR, 1100);
        assert_eq!(tokens.client_of(&token, now).as_deref(), Some("demo"));
        assert_eq!(tokens.client_of(&token, now + HOUR), None);
    }

    #[test]
    fn revoking_one_client_leaves_the_others_alone() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let ours = tokens.issue("ours", now, HOUR, 1100);
        let theirs = tokens.issue("theirs", now, HOUR, 1100);
        assert_eq!(tokens.revoke(Some("ours")), 1);
        assert_eq!(tokens.client_of(&ours, now), None);
        assert!(tokens.client_of(&theirs, now).is_some());
        assert_eq!(tokens.revoke(None), 1);
        assert_eq!(tokens.client_of(&theirs, now), None);
    }

    #[test]
    fn the_most_requests_at_once_are_remembered() {
        let tokens = Tokens::default();
        let first = tokens.enter();
        drop(tokens.enter());
        drop(first);
        drop(tokens.enter());
        assert_eq!(tokens.most_running(), 2);
    }

    #[test]
    fn an_endless_lifetime_is_no_overflow() {
        let tokens = Tokens::default();
        let now = Instant::now();
        let token = tokens.issue("demo", now, Duration::MAX, 1100);
        assert!(tokens.client_of(&token, now).is_some());
    }
}
