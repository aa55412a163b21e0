//! The URL of an outbound proxy: `http://[user[:password]@]host[:port]`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::uri::Authority;
use http::{HeaderValue, Uri};
use secrecy::zeroize::Zeroizing;

use super::address::names_host;
use crate::problems::{Problem, configuration};

/// The proxy for one endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyRoute {
    /// The proxy, without credentials.
    pub uri: Uri,
    /// The value of `Proxy-Authorization`, marked sensitive.
    pub authorization: Option<HeaderValue>,
}

impl ProxyRoute {
    /// Parses a URL from `place`. No problem quotes the text, which may hold a password; nor may a part of it be taken for
    /// the host: everything before the last `@` is credentials.
    pub(super) fn parse(url: &str, place: &str) -> Result<Self, Problem> {
        let wrong = || configuration::proxy_url_wrong(place);
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (credentials, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let host = host.strip_suffix('/').unwrap_or(host);
        let authority: Authority = host.parse().map_err(|_| wrong())?;
        if !names_host(&authority) {
            return Err(wrong());
        }
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority)
            .path_and_query("/");
        Ok(Self {
            uri: uri.build().map_err(|_| wrong())?,
            authorization: match credentials {
                "" => None,
                credentials => {
                    Some(basic(credentials).ok_or_else(|| configuration::proxy_url_needs_encoding(place))?)
                }
            },
        })
    }
}

/// The value of `Proxy-Authorization`; `None` if a character is not percent-encoded.
fn basic(credentials: &str) -> Option<HeaderValue> {
    let mut login = Zeroizing::new(Vec::with_capacity(credentials.len() + 1));
    let mut bytes = credentials.bytes();
    while let Some(byte) = bytes.next() {
        login.push(match byte {
            b'%' => {
                let digit = |byte: u8| {
                    char::from(byte)
                        .to_digit(16)
                        .and_then(|digit| u8::try_from(digit).ok())
                };
                digit(bytes.next()?)? << 4 | digit(bytes.next()?)?
            }
            // RFC 3986 §3.2.1: user information.
            byte if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:".contains(&byte) => byte,
            _ => return None,
        });
    }
    if !credentials.contains(':') {
        login.push(b':');
    }
    let value = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*login)));
    let mut value = HeaderValue::from_str(&value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn everything_before_the_last_at_sign_is_credentials() {
        for (url, authority, login) in [
            ("http://proxy.corp:3128", "proxy.corp:3128", None),
            ("http://proxy.corp/", "proxy.corp", None),
            ("http://[::1]:3128", "[::1]:3128", None),
            (
                "http://user:p%40ss@proxy.corp:3128",
                "proxy.corp:3128",
                Some("user:p@ss"),
            ),
            ("http://user@proxy.corp:3128", "proxy.corp:3128", Some("user:")),
            (
                "http://user:a:b!$&'()*+,;=~@proxy",
                "proxy",
                Some("user:a:b!$&'()*+,;=~"),
            ),
            (
                "http://DOM%5Cuser:%C3%A4%25@proxy",
                "proxy",
                Some("DOM\\user:\u{e4}%"),
            ),
        ] {
            let Ok(route) = ProxyRoute::parse(url, "proxy") else {
                panic!("{url}")
            };
            assert_eq!(
                route.uri.authority().map(Authority::as_str),
                Some(authority),
                "{url}"
            );
            let value = login.map(|login| format!("Basic {}", BASE64_STANDARD.encode(login)));
            let authorization = route.authorization;
            assert_eq!(
                authorization.as_ref().map(|value| value.to_str().unwrap()),
                value.as_deref(),
                "{url}"
            );
            assert!(authorization.is_none_or(|value| value.is_sensitive()));
        }
    }

    #[test]
    fn a_character_that_is_not_percent_encoded_is_refused_without_showing_it() {
        for password in [
            "p@ss", "123#x", "a/b", "a?b", "a[b", "a]b", "a\\b", "a^b", "a`b", "a{b", "a|b", "a}b", "a\"b",
            "a<b", "a>b", "a b", "a\tb", "\u{e4}", "a%zz", "a%4", "%",
        ] {
            let url = format!("http://user:{password}@proxy:3128");
            let Err(problem) = ProxyRoute::parse(&url, "proxy") else {
                panic!("{url}")
            };
            assert_eq!(problem.code(), "proxy-url-needs-encoding", "{url}");
        }
        for url in [
            "https://hunter2@proxy",
            "socks5://hunter2",
            "hunter2",
            "http://",
            "http://user:hunter2@",
            "http://proxy:port",
            "http://proxy:3128/path",
            "http://proxy:3128?a",
            "http://user:123#hunter2",
        ] {
            let Err(problem) = ProxyRoute::parse(url, "proxy") else {
                panic!("{url}")
            };
            assert_eq!(problem.code(), "proxy-url-wrong", "{url}");
            assert!(!problem.to_string().contains("hunter2"), "{problem}");
        }
    }

    proptest! {
        #[test]
        fn no_proxy_url_makes_the_parser_panic_or_shows_its_password(before in ".{0,8}", after in ".{0,8}") {
            let url = format!("http://{before}hunter2{after}@proxy:1");
            match ProxyRoute::parse(&url, "proxy") {
                Ok(route) => prop_assert_eq!(route.uri.host(), Some("proxy")),
                Err(problem) => prop_assert!(!problem.to_string().contains("hunter2")),
            }
        }
    }
}
