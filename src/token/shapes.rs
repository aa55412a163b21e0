//! The four shapes of a client credentials request that Cisco's identity service accepts.
//!
//! Everything is encoded strictly as `application/x-www-form-urlencoded`, in the query too: an unencoded `+` would
//! arrive as a space and be refused as a wrong secret.

use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::secret_encoding::{basic, form, sensitive};
use crate::config::{ClientAuth, Endpoint};

/// A token request before it is sent. Each part may hold the secret and is zeroized when dropped.
pub(super) struct TokenRequest {
    pub(super) url: Zeroizing<String>,
    pub(super) body: Option<Zeroizing<String>>,
    pub(super) authorization: Option<HeaderValue>,
}

const GRANT: (&str, &str) = ("grant_type", "client_credentials");

impl TokenRequest {
    pub(super) fn new(
        endpoint: &Endpoint,
        auth: ClientAuth,
        scope: &str,
        id: &SecretString,
        secret: &SecretString,
    ) -> Self {
        let authorization = (auth == ClientAuth::Basic)
            .then(|| sensitive(Zeroizing::new(["Basic ", &*basic(id, secret)].concat())));
        let id = ("client_id", id.expose_secret());
        let secret = ("client_secret", secret.expose_secret());
        let (mut query, mut body) = match auth {
            ClientAuth::Query => (vec![GRANT, id, secret], None),
            ClientAuth::Form => (vec![], Some(vec![GRANT, id, secret])),
            ClientAuth::Mixed => (vec![GRANT, id, secret], Some(vec![GRANT])),
            ClientAuth::Basic => (vec![], Some(vec![GRANT])),
        };
        if !scope.is_empty() {
            let target = if query.is_empty() { body.as_mut() } else { None };
            target.unwrap_or(&mut query).push(("scope", scope));
        }
        Self {
            url: url(endpoint, query),
            body: body.map(|pairs| form(pairs.into_iter())),
            authorization,
        }
    }
}

/// The endpoint's URL: its configured query without `grant_type`, then `pairs`.
fn url(endpoint: &Endpoint, pairs: Vec<(&str, &str)>) -> Zeroizing<String> {
    let pairs = form(pairs.into_iter());
    let configured = endpoint.query().unwrap_or_default().split('&');
    let query: Vec<&str> = configured
        .filter(|pair| pair.split('=').next() != Some(GRANT.0))
        .chain([&**pairs])
        .filter(|part| !part.is_empty())
        .collect();
    let scheme = if endpoint.is_https() { "https" } else { "http" };
    let place = format!("{scheme}://{}{}", endpoint.authority(), endpoint.path());
    let mark = if query.is_empty() { "" } else { "?" };
    let query = Zeroizing::new(query.join("&"));
    Zeroizing::new([&*place, mark, &**query].concat())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    const SECRET: &str = "a+b%c&d=e/f g\u{fc}";
    const ENCODED: &str = "a%2Bb%25c%26d%3De%2Ff+g%C3%BC";

    fn request(auth: ClientAuth, url: &str, scope: &str) -> TokenRequest {
        let endpoint = url.parse().unwrap();
        let secret = SecretString::from(SECRET.to_owned());
        TokenRequest::new(
            &endpoint,
            auth,
            scope,
            &SecretString::from("0oa id".to_owned()),
            &secret,
        )
    }

    fn parts(request: &TokenRequest) -> (&str, Option<&str>) {
        (&request.url, request.body.as_ref().map(|body| body.as_str()))
    }

    #[test]
    fn each_shape_puts_each_parameter_in_its_place() {
        let all = format!("grant_type=client_credentials&client_id=0oa+id&client_secret={ENCODED}");
        let bare = "https://id/v1/token";
        let queried = format!("{bare}?{all}");
        let grant = Some("grant_type=client_credentials");
        assert_eq!(
            parts(&request(ClientAuth::Query, bare, "")),
            (queried.as_str(), None)
        );
        assert_eq!(
            parts(&request(ClientAuth::Form, bare, "")),
            (bare, Some(all.as_str()))
        );
        assert_eq!(
            parts(&request(ClientAuth::Mixed, bare, "")),
            (queried.as_str(), grant)
        );
        let basic = request(ClientAuth::Basic, bare, "");
        assert_eq!(parts(&basic), (bare, grant));
        let expected = BASE64_STANDARD.encode(format!("0oa+id:{ENCODED}"));
        assert_eq!(
            basic.authorization.unwrap().to_str().unwrap(),
            format!("Basic {expected}")
        );
    }

    #[test]
    fn a_grant_type_pasted_into_the_url_is_not_doubled() {
        let pasted = "https://id/token?grant_type=client_credentials&x=1";
        let form = request(ClientAuth::Form, pasted, "");
        assert_eq!(parts(&form).0, "https://id/token?x=1");
        let query = request(ClientAuth::Query, pasted, "");
        assert_eq!(parts(&query).0.matches("grant_type").count(), 1);
        assert!(parts(&query).0.starts_with("https://id/token?x=1&grant_type="));
    }

    #[test]
    fn a_scope_goes_where_the_credentials_go() {
        assert!(
            parts(&request(ClientAuth::Query, "https://id/t", "a b"))
                .0
                .ends_with("&scope=a+b")
        );
        assert!(
            parts(&request(ClientAuth::Basic, "https://id/t", "a b"))
                .1
                .unwrap()
                .ends_with("&scope=a+b")
        );
    }
}
