//! The outbound proxy of a corporate network, for the token call and the API call.

use std::path::PathBuf;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::Matcher;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};

use super::address::Endpoint;
use super::secret::{InputError, SecretSource};
use crate::problems::files;

/// The HTTP proxy for outbound calls, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OutboundProxy {
    /// None; the environment is not used.
    #[default]
    Direct,
    /// `HTTPS_PROXY` and `NO_PROXY` of the environment.
    Environment,
    /// This one; its URL may hold credentials.
    Url(SecretSource),
}

/// The proxy for one endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyRoute {
    /// The proxy, without credentials.
    pub uri: Uri,
    /// The value of `Proxy-Authorization`, marked sensitive.
    pub authorization: Option<HeaderValue>,
}

impl OutboundProxy {
    /// The file that holds the URL, if a file does.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Direct | Self::Environment => None,
            Self::Url(source) => source.path(),
        }
    }

    /// The route to an endpoint; `None` if it is reached directly.
    pub fn route(&self, to: &Endpoint) -> Result<Option<ProxyRoute>, InputError> {
        let found = match self {
            Self::Direct => return Ok(None),
            Self::Environment => match Matcher::from_env().intercept(to.uri()) {
                Some(found) => found,
                None => return Ok(None),
            },
            Self::Url(source) => {
                let url = Some(source.load()?).filter(is_http);
                let matcher = url.map(|url| Matcher::builder().all(url.expose_secret()).build());
                let found = matcher.and_then(|matcher| matcher.intercept(to.uri()));
                found.ok_or_else(files::proxy_url_wrong)?
            }
        };
        if found.uri().scheme_str() != Some("http") {
            return Err(files::proxy_url_wrong().into());
        }
        Ok(Some(ProxyRoute {
            uri: found.uri().clone(),
            authorization: found.basic_auth().cloned(),
        }))
    }
}

const FORM: &str = "is not a proxy; write \"http://host:port\", \"http://user:password@host:port\", \"environment\", \
                    or { file = \"/path\" }";

impl<'de> Deserialize<'de> for OutboundProxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = SecretSource::deserialize(deserializer)?;
        match &source {
            SecretSource::Inline(text) if text.expose_secret() == "environment" => Ok(Self::Environment),
            SecretSource::Inline(text) if !is_http(text) => Err(de::Error::custom(FORM)),
            _ => Ok(Self::Url(source)),
        }
    }
}

fn is_http(url: &SecretString) -> bool {
    url.expose_secret().starts_with("http://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(url: &str) -> Result<Option<ProxyRoute>, InputError> {
        let to: Endpoint = "https://sb.xylem.cisco.com".parse().unwrap();
        OutboundProxy::Url(SecretSource::Inline(SecretString::from(url.to_owned()))).route(&to)
    }

    #[test]
    fn credentials_move_from_the_url_to_the_header() {
        let route = route("http://user:p%40ss@proxy.corp:3128").unwrap().unwrap();
        assert_eq!(
            route.uri.authority().map(http::uri::Authority::as_str),
            Some("proxy.corp:3128")
        );
        let authorization = route.authorization.unwrap();
        assert_eq!(authorization, "Basic dXNlcjpwQHNz", "user:p@ss in base64");
        assert!(authorization.is_sensitive());
    }

    #[test]
    fn a_wrong_proxy_is_rejected_without_its_text() {
        for wrong in ["https://hunter2@proxy", "socks5://hunter2", "hunter2", "http://"] {
            let Err(error) = route(wrong) else {
                panic!("{wrong}")
            };
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
