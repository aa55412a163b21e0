//! The way out of a corporate network, for the token call and the API call alike.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use secrecy::ExposeSecret;

use super::address::Endpoint;
use super::secret::{SecretError, SecretSource};

/// The HTTP proxy between this machine and the outside, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundProxy {
    /// None, whatever the environment says.
    Direct,
    /// `HTTPS_PROXY` and `NO_PROXY` of the environment.
    Environment,
    /// This one; its URL may hold credentials.
    Url(SecretSource),
}

/// How one endpoint is reached through a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyRoute {
    /// The proxy itself, without credentials.
    pub uri: Uri,
    /// What goes into `Proxy-Authorization`, marked sensitive.
    pub authorization: Option<HeaderValue>,
}

/// Why the way out is not known; names no credential.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The place that holds the proxy's URL cannot be read.
    #[error("the outbound proxy's URL cannot be had")]
    Secret(#[from] SecretError),
    /// What it holds is no proxy.
    #[error("the outbound proxy is not \"http://host:port\" or \"http://user:password@host:port\"")]
    Form,
}

impl OutboundProxy {
    /// The file that holds its URL, where one does.
    #[must_use]
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Direct | Self::Environment => None,
            Self::Url(source) => source.path(),
        }
    }

    /// The way to an endpoint; nothing where it is reached directly.
    pub fn route(&self, to: &Endpoint) -> Result<Option<ProxyRoute>, OutboundError> {
        let matcher = match self {
            Self::Direct => return Ok(None),
            Self::Environment => Matcher::from_env(),
            Self::Url(source) => {
                let url = source.load()?;
                if !url.expose_secret().starts_with("http://") {
                    return Err(OutboundError::Form);
                }
                Matcher::builder().all(url.expose_secret().to_owned()).build()
            }
        };
        let Some(found) = matcher.intercept(to.uri()) else {
            return if matches!(self, Self::Environment) {
                Ok(None)
            } else {
                Err(OutboundError::Form)
            };
        };
        if found.uri().scheme_str() != Some("http") {
            return Err(OutboundError::Form);
        }
        Ok(Some(ProxyRoute {
            uri: found.uri().clone(),
            authorization: found.basic_auth().cloned(),
        }))
    }
}

impl ProxyRoute {
    /// The user and password behind the `Proxy-Authorization` value.
    #[must_use]
    pub fn credentials(&self) -> Option<(String, String)> {
        let encoded = self
            .authorization
            .as_ref()?
            .to_str()
            .ok()?
            .strip_prefix("Basic ")?;
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
        decoded
            .split_once(':')
            .map(|(user, password)| (user.to_owned(), password.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn route(url: &str) -> Result<Option<ProxyRoute>, OutboundError> {
        let to: Endpoint = "https://sb.xylem.cisco.com".parse().unwrap();
        OutboundProxy::Url(SecretSource::Inline(SecretString::from(url.to_owned()))).route(&to)
    }

    #[test]
    fn credentials_leave_the_url_for_the_header() {
        let route = route("http://user:p%40ss@proxy.corp:3128").unwrap().unwrap();
        assert_eq!(
            route.uri.authority().map(http::uri::Authority::as_str),
            Some("proxy.corp:3128")
        );
        assert_eq!(route.credentials(), Some(("user".into(), "p@ss".into())));
        assert!(route.authorization.unwrap().is_sensitive());
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_text() {
        for wrong in ["https://hunter2@proxy", "socks5://hunter2", "hunter2", "http://"] {
            let Err(error) = route(wrong) else {
                panic!("{wrong}")
            };
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
