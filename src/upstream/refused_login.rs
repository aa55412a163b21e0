//! Remembers the login that an outbound proxy refused, so that it is not sent again and again: many companies lock an
//! account after a few failed logins.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The refused login. Clones share it: token requests and API requests use the same proxy.
#[derive(Clone, Default)]
pub struct RefusedLogin(Arc<Mutex<Option<(HeaderValue, Instant)>>>);

/// How long a refused login is not sent. The proxy's own directory may have failed, so that it is tried again at last.
const REST: Duration = Duration::from_secs(30 * 60);

impl RefusedLogin {
    /// Whether this login was refused, and is not to be sent now.
    #[must_use]
    pub fn is(&self, login: &HeaderValue) -> bool {
        let refused = self.0.lock();
        refused
            .as_ref()
            .is_some_and(|(known, since)| known == login && since.elapsed() < REST)
    }

    /// The proxy has refused this login.
    pub fn set(&self, login: &HeaderValue) {
        *self.0.lock() = Some((login.clone(), Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refused_login_is_tried_again_when_it_has_changed_or_after_half_an_hour() {
        let (refused, shared) = (RefusedLogin::default(), RefusedLogin::default().clone());
        let (wrong, corrected) = (
            HeaderValue::from_static("Basic YTpi"),
            HeaderValue::from_static("Basic YTpj"),
        );
        assert!(!refused.is(&wrong) && !shared.is(&wrong));
        refused.clone().set(&wrong);
        assert!(refused.is(&wrong) && !refused.is(&corrected));
        tokio::time::advance(REST).await;
        assert!(!refused.is(&wrong));
    }
}
