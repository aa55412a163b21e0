//! The access tokens that the identity service has issued, against which the API checks bearers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::sync::watch;

/// The size of an RS256 signature by a 2048-bit key.
const SIGNATURE_BYTES: usize = 256;
/// A smaller token cannot be a JWT: it is an opaque string, like Cisco's former tokens of 28 characters.
const SMALLEST_JWT: usize = 800;
/// A longer lifetime counts as this one.
const LONGEST_LIFETIME: Duration = Duration::from_secs(100 * 365 * 86_400);
/// A part of every token, to find tokens where they must not be.
pub const TOKEN_MARK: &str = "SimulatedToken";
/// How many issued tokens are kept, valid or not; an older one is unknown.
pub const TOKENS_KEPT: usize = 4096;

/// The issued tokens.
#[derive(Debug)]
pub struct Tokens {
    issued: watch::Sender<Issued>,
    /// How many times faster than real time they expire.
    speed: u32,
    /// How many times a token was refused because it was unknown, expired or revoked.
    refused: AtomicUsize,
    /// Cloned for each token request in progress.
    in_progress: Arc<()>,
    /// The largest number of token requests that were in progress at the same time.
    max_concurrent: AtomicUsize,
}

#[derive(Debug, Default)]
struct Issued {
    /// The last tokens, oldest first.
    tokens: VecDeque<Token>,
    /// How many tokens were issued in total.
    count: usize,
}

#[derive(Debug)]
struct Token {
    text: String,
    client: String,
    expires: Instant,
    revoked: bool,
}

impl Tokens {
    pub(crate) fn new(speed: u32) -> Self {
        Tokens {
            issued: watch::Sender::default(),
            speed,
            refused: AtomicUsize::new(0),
            in_progress: Arc::default(),
            max_concurrent: AtomicUsize::new(0),
        }
    }

    /// Issues a token of about `size` bytes to `client`.
    pub(super) fn issue(&self, client: &str, lifetime: Duration, size: usize) -> String {
        let text = generate(client, lifetime, size);
        let token = Token {
            text: text.clone(),
            client: client.to_owned(),
            expires: Instant::now() + lifetime.min(LONGEST_LIFETIME) / self.speed,
            revoked: false,
        };
        self.issued.send_modify(|issued| {
            issued.tokens.push_back(token);
            issued.count += 1;
            if issued.tokens.len() > TOKENS_KEPT {
                issued.tokens.pop_front();
            }
        });
        text
    }

    /// The newest token of `client`, revoked or not, and the rest of its lifetime, unless it has expired.
    pub(super) fn newest_of(&self, client: &str) -> Option<(String, Duration)> {
        let issued = self.issued.borrow();
        let mut newest_first = issued.tokens.iter().rev();
        let token = newest_first.find(|token| token.client == client)?;
        let left = token.expires.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (token.text.clone(), left * self.speed))
    }

    /// The client that a token was issued to, unless the token is unknown, expired or revoked.
    pub(super) fn client_of(&self, text: &str) -> Option<String> {
        let issued = self.issued.borrow();
        let mut newest_first = issued.tokens.iter().rev();
        let token = newest_first
            .find(|token| token.text == text)
            .filter(|token| !token.revoked && token.expires > Instant::now());
        if token.is_none() {
            self.refused.fetch_add(1, Ordering::SeqCst);
        }
        Some(token?.client.clone())
    }

    /// Revokes the tokens of `client`, or of all clients, and returns how many that were.
    pub fn revoke(&self, client: Option<&str>) -> usize {
        let mut revoked = 0;
        self.issued.send_modify(|issued| {
            for token in &mut issued.tokens {
                if !token.revoked && client.is_none_or(|client| token.client == client) {
                    token.revoked = true;
                    revoked += 1;
                }
            }
        });
        revoked
    }

    /// Brings every expiry forward, as if `by` had passed.
    pub fn advance(&self, by: Duration) {
        self.issued.send_modify(|issued| {
            for token in &mut issued.tokens {
                token.expires = token
                    .expires
                    .checked_sub(by / self.speed)
                    .unwrap_or_else(Instant::now);
            }
        });
    }

    /// The issued tokens, valid or not, oldest first; the last [`TOKENS_KEPT`].
    pub fn issued(&self) -> Vec<String> {
        let issued = self.issued.borrow();
        issued.tokens.iter().map(|token| token.text.clone()).collect()
    }

    /// How many tokens were issued.
    pub fn count(&self) -> usize {
        self.issued.borrow().count
    }

    /// Waits until `count` tokens were issued.
    pub async fn wait_for(&self, count: usize) {
        let mut changes = self.issued.subscribe();
        let reached = changes.wait_for(|issued| issued.count >= count).await;
        drop(reached.expect("the sender lives in self"));
    }

    /// How many requests carried an unknown, expired or revoked token.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// The largest number of token requests that were in progress at the same time.
    pub fn max_concurrent(&self) -> usize {
        self.max_concurrent.load(Ordering::SeqCst)
    }

    /// Counts a token request as in progress until the guard is dropped.
    pub(crate) fn request_started(&self) -> Arc<()> {
        let guard = Arc::clone(&self.in_progress);
        let concurrent = Arc::strong_count(&guard) - 1;
        self.max_concurrent.fetch_max(concurrent, Ordering::SeqCst);
        guard
    }
}

fn generate(client: &str, lifetime: Duration, size: usize) -> String {
    if size < SMALLEST_JWT {
        return TOKEN_MARK.to_owned() + &random(size.saturating_sub(TOKEN_MARK.len()).max(8));
    }
    let unpadded = jwt(client, lifetime, "").len();
    // Base64 makes four characters of three bytes.
    let padding = random(size.saturating_sub(unpadded) / 4 * 3);
    jwt(client, lifetime, &padding)
}

fn jwt(client: &str, lifetime: Duration, padding: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = json!({"alg": "RS256", "kid": random(43), "typ": "JWT"});
    let claims = json!({
        "ver": 1,
        "jti": format!("AT.{}", random(43)),
        "iss": "https://localhost/oauth2/default",
        "aud": "api://default",
        "iat": now.as_secs(),
        "exp": now.saturating_add(lifetime).as_secs(),
        "cid": client,
        "sub": client,
        "access": padding,
    });
    let signature: [u8; SIGNATURE_BYTES] = std::array::from_fn(|_| fastrand::u8(..));
    let mut signature = URL_SAFE_NO_PAD.encode(signature);
    signature.replace_range(..TOKEN_MARK.len(), TOKEN_MARK);
    let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{claims}.{signature}")
}

/// Random letters and digits.
pub(super) fn random(length: usize) -> String {
    let characters = std::iter::repeat_with(fastrand::alphanumeric);
    characters.take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_token_looks_like_a_jwt_of_about_the_requested_size() {
        for size in [800, 1100, 1500, 8000] {
            let token = generate("demo", HOUR, size);
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
    fn a_small_token_is_an_opaque_string() {
        assert_eq!(generate("demo", HOUR, 28).len(), 28);
    }

    #[test]
    fn a_token_is_valid_for_its_lifetime() {
        let tokens = Tokens::new(1);
        let token = tokens.issue("demo", HOUR, 1100);
        tokens.advance(HOUR / 2);
        assert_eq!(tokens.client_of(&token).as_deref(), Some("demo"));
        tokens.advance(HOUR / 2);
        assert_eq!(tokens.client_of(&token), None);
        assert_eq!(tokens.refused(), 1);
    }

    #[test]
    fn a_faster_clock_shortens_the_real_lifetime_and_not_the_stated_one() {
        let tokens = Tokens::new(3600);
        let issued = Instant::now();
        tokens.issue("demo", HOUR, 28);
        assert!(tokens.issued.borrow().tokens[0].expires <= issued + Duration::from_secs(2));
        let (_, left) = tokens.newest_of("demo").unwrap();
        assert!(left > HOUR / 4, "{left:?}");
    }

    #[test]
    fn revoking_one_clients_tokens_leaves_the_others_valid() {
        let tokens = Tokens::new(1);
        let ours = tokens.issue("ours", HOUR, 1100);
        let theirs = tokens.issue("theirs", HOUR, 1100);
        assert_eq!(tokens.revoke(Some("ours")), 1);
        assert_eq!(tokens.client_of(&ours), None);
        assert!(tokens.client_of(&theirs).is_some());
        assert_eq!(tokens.revoke(None), 1);
        assert_eq!(tokens.client_of(&theirs), None);
    }

    #[test]
    fn the_largest_number_of_concurrent_requests_is_kept() {
        let tokens = Tokens::new(1);
        let first = tokens.request_started();
        drop(tokens.request_started());
        drop(first);
        drop(tokens.request_started());
        assert_eq!(tokens.max_concurrent(), 2);
    }

    #[test]
    fn an_endless_lifetime_does_not_overflow() {
        let tokens = Tokens::new(1);
        let token = tokens.issue("demo", Duration::MAX, 1100);
        assert!(tokens.client_of(&token).is_some());
    }

    #[test]
    fn only_the_last_tokens_are_kept() {
        let tokens = Tokens::new(1);
        let first = tokens.issue("demo", HOUR, 28);
        for _ in 0..TOKENS_KEPT {
            tokens.issue("demo", HOUR, 28);
        }
        assert_eq!(tokens.client_of(&first), None);
        let issued = tokens.issued.borrow();
        assert_eq!(
            (issued.tokens.len(), issued.count),
            (TOKENS_KEPT, TOKENS_KEPT + 1)
        );
    }
}
