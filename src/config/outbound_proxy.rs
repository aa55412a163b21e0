//! The outbound proxy of a corporate network, for the token call and the API call.

use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer};

use super::address::Endpoint;
use super::no_proxy;
use super::proxy_url::ProxyRoute;
use super::secret::{InputError, SecretSource};
use super::secret_check::is_placeholder;
use crate::problems::{Problem, configuration, files};

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

impl OutboundProxy {
    /// The route to an endpoint; `None` if it is reached directly.
    pub fn route(&self, to: &Endpoint) -> Result<Option<ProxyRoute>, InputError> {
        match self {
            Self::Direct => Ok(None),
            Self::Environment => Ok(of_environment(to)?),
            Self::Url(source) => {
                let url = source.load()?;
                if is_placeholder(&url) {
                    return Err(files::placeholder("the outbound proxy", source.place()).into());
                }
                // No URL has blanks or line breaks at its ends.
                let url = url.expose_secret().trim();
                if url.contains(['\r', '\n']) {
                    return Err(configuration::proxy_url_has_lines(source.place()).into());
                }
                Ok(Some(ProxyRoute::parse(url, "the outbound proxy")?))
            }
        }
    }

    /// A warning for each entry of `NO_PROXY` that means nothing here.
    pub(crate) fn warnings(&self) -> Vec<Problem> {
        match (self, first_set(&NO_PROXY)) {
            (Self::Environment, Some((_, list))) => no_proxy::ignored(&list)
                .map(configuration::no_proxy_entry_ignored)
                .collect(),
            _ => Vec::new(),
        }
    }
}

const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The first variable that is set to a value.
fn first_set(names: &[&'static str]) -> Option<(&'static str, String)> {
    let value = |name| Some((name, std::env::var_os(name).filter(|value| !value.is_empty())?));
    let (name, value) = names.iter().copied().find_map(value)?;
    // A value that is not UTF-8 is no URL.
    Some((name, value.to_string_lossy().into_owned()))
}

fn of_environment(to: &Endpoint) -> Result<Option<ProxyRoute>, Problem> {
    // A CGI server sets HTTP_PROXY to a field of the request.
    let is_cgi = std::env::var_os("REQUEST_METHOD").is_some();
    let names: &[_] = match to.is_https() {
        true => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        false if is_cgi => &["http_proxy", "ALL_PROXY", "all_proxy"],
        false => &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
    };
    let exceptions = first_set(&NO_PROXY).unwrap_or_default().1;
    let Some((name, url)) = first_set(names).filter(|_| !no_proxy::is_exempt(&exceptions, to)) else {
        return Ok(None);
    };
    let url = if url.contains("://") {
        url
    } else {
        format!("http://{url}")
    };
    ProxyRoute::parse(&url, name).map(Some)
}

impl<'de> Deserialize<'de> for OutboundProxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let source = SecretSource::deserialize(deserializer)?;
        Ok(match &source {
            SecretSource::Inline(text) if text.expose_secret() == "environment" => Self::Environment,
            _ => Self::Url(source),
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn a_placeholder_of_the_documentation_is_no_proxy() {
        let url = SecretString::from("http://user:password@proxy.corp:3128".to_owned());
        let to = "https://sb.xylem.cisco.com".parse().unwrap();
        let Err(error) = OutboundProxy::Url(SecretSource::Inline(url)).route(&to) else {
            panic!("it is refused");
        };
        assert_eq!(Problem::from(error).code(), "placeholder-in-credentials");
    }
}
