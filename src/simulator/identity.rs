//! The identity service: issues tokens for client credentials, as Cisco's Okta server does, to clients that send them
//! in any of the four shapes in use.
//!
//! It is stricter than Okta in one thing: what cannot be form-decoded is refused by name instead of being taken for a
//! wrong secret.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, Response, StatusCode, Uri};
use serde::Serialize;
use serde_json::json;

use super::behaviour::{ExpiresIn, OlderTokens, Tenant, TokenReuse, UnknownClient};
use super::record::Entry;
use super::reply;
use super::{Client, Settings, Shared, form};

/// Where the token endpoint is.
pub(super) const TOKEN_PATH: &str = "/oauth2/default/v1/token";

/// The shape of a token request: where its parameters stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// All parameters in the query, no body.
    Query,
    /// All parameters in the form-encoded body.
    Form,
    /// The grant type in the body, identifier and secret in the query.
    Mixed,
    /// Identifier and secret by HTTP Basic, the grant type in the body.
    Basic,
}

/// Answers a token request.
pub(super) async fn token(
    State(shared): State<Arc<Shared>>,
    Extension(entry): Extension<Entry>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let login = match Login::read(uri.query(), &headers, &body) {
        Ok(login) => login,
        Err(refusal) => return refusal.response(),
    };
    entry.client_auth(login.shape);
    let settings = shared.settings();
    match login.judge(&settings) {
        Ok(client) => {
            entry.token_client(&client.id);
            issued(&shared, &settings, &client.id)
        }
        Err(refusal) => refusal.response(),
    }
}

/// Answers a token request of another method than POST.
pub(super) async fn method_not_allowed() -> Response<Body> {
    let mut response = reply::json(
        StatusCode::METHOD_NOT_ALLOWED,
        &okta(
            "E0000022",
            "The endpoint does not support the provided HTTP method",
        ),
    );
    response
        .headers_mut()
        .insert(http::header::ALLOW, http::HeaderValue::from_static("POST"));
    response
}

fn issued(shared: &Shared, settings: &Settings, client: &str) -> Response<Body> {
    let now = shared.clock.now();
    let reused = match settings.behaviour.token_reuse {
        TokenReuse::Never => None,
        TokenReuse::UntilExpiry => shared.tokens.newest_of(client, now),
    };
    let (token, left) = reused.unwrap_or_else(|| {
        if settings.behaviour.older_tokens == OlderTokens::Revoked {
            shared.tokens.revoke(Some(client));
        }
        let lifetime = settings.token_lifetime;
        let token = shared.tokens.issue(client, now, lifetime, settings.token_bytes);
        (token, lifetime)
    });
    let mut body = format!(r#"{{"access_token":"{token}","token_type":"Bearer""#);
    let expires_in = match &settings.behaviour.expires_in {
        ExpiresIn::Lifetime => Some(left.as_secs().to_string()),
        ExpiresIn::RoundedUp => {
            let begun = u64::from(left.subsec_nanos() > 0);
            Some(left.as_secs().saturating_add(begun).to_string())
        }
        ExpiresIn::Missing => None,
        ExpiresIn::Raw(raw) => Some(raw.clone()),
    };
    if let Some(expires_in) = expires_in {
        write!(body, r#","expires_in":{expires_in}"#).expect("a String takes every write");
    }
    body.push('}');
    let mut response = reply::json_text(StatusCode::OK, body);
    response.headers_mut().insert(
        CACHE_CONTROL,
        http::HeaderValue::from_static("no-cache, no-store"),
    );
    response
}

/// What a token request says, before anything of it is believed.
#[derive(Debug, PartialEq)]
struct Login {
    shape: ClientAuth,
    id: String,
    secret: String,
    grant_type: Option<String>,
}

impl Login {
    fn read(query: Option<&str>, headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        if !is_form(headers) {
            return Err(Refusal(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                okta(
                    "E0000021",
                    "Bad request. Accept and/or Content-Type headers likely do not match supported values: \
                     send Content-Type: application/x-www-form-urlencoded.",
                ),
            ));
        }
        let unreadable = |place: &str, error: form::FormError| {
            Refusal::oauth(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                &format!("The {place} cannot be decoded: {error}."),
            )
        };
        let in_query = Parameters::read(query.unwrap_or_default().as_bytes())
            .map_err(|error| unreadable("query", error))?;
        let in_body = Parameters::read(body).map_err(|error| unreadable("body", error))?;
        let basic = basic(headers)?;
        for parameters in [&in_query, &in_body] {
            if let Some(name) = parameters.repeated() {
                return Err(Refusal::oauth(
                    StatusCode::BAD_REQUEST,
                    "invalid_request",
                    &format!("The parameter '{name}' is given more than once."),
                ));
            }
        }

        let kinds = [basic.is_some(), in_query.has_client(), in_body.has_client()];
        if kinds.into_iter().filter(|present| *present).count() > 1 {
            return Err(Refusal::oauth(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "Cannot supply multiple client credentials. Use one of the following: credentials in the \
                 Authorization header, credentials in the post body, or credentials in the query.",
            ));
        }
        let grant_type = in_body
            .first("grant_type")
            .or_else(|| in_query.first("grant_type"))
            .map(ToOwned::to_owned);
        let (shape, id, secret) = if let Some((id, secret)) = basic {
            (ClientAuth::Basic, id, secret)
        } else if in_query.has_client() {
            let shape = if in_body.first("grant_type").is_some() {
                ClientAuth::Mixed
            } else {
                ClientAuth::Query
            };
            let (id, secret) = in_query.client();
            (shape, id, secret)
        } else if in_body.has_client() {
            let (id, secret) = in_body.client();
            (ClientAuth::Form, id, secret)
        } else {
            return Err(Refusal::oauth(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "No client credentials found.",
            ));
        };
        Ok(Login {
            shape,
            id,
            secret,
            grant_type,
        })
    }

    fn judge<'a>(&self, settings: &'a Settings) -> Result<&'a Client, Refusal> {
        let client = settings
            .clients
            .iter()
            .filter(|_| settings.behaviour.tenant == Tenant::Own)
            .find(|client| client.id == self.id)
            .ok_or_else(|| {
                let status = match settings.behaviour.unknown_client {
                    UnknownClient::BadRequest => StatusCode::BAD_REQUEST,
                    UnknownClient::Unauthorized => StatusCode::UNAUTHORIZED,
                };
                Refusal(
                    status,
                    okta("invalid_client", "Invalid value for 'client_id' parameter."),
                )
            })?;
        if client.secret != self.secret {
            return Err(Refusal::oauth(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "The client secret supplied for a confidential client is invalid.",
            ));
        }
        match self.grant_type.as_deref() {
            Some("client_credentials") => Ok(client),
            _ => Err(Refusal::oauth(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "The authorization grant type is not supported by the authorization server. \
                 Send grant_type=client_credentials.",
            )),
        }
    }
}

struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn read(text: &[u8]) -> Result<Self, form::FormError> {
        form::pairs(text).map(Parameters)
    }

    fn first(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(key, _)| key == name)?;
        Some(&pair.1)
    }

    fn has_client(&self) -> bool {
        self.first("client_id")
            .or_else(|| self.first("client_secret"))
            .is_some()
    }

    fn client(&self) -> (String, String) {
        let value = |name| self.first(name).unwrap_or_default().to_owned();
        (value("client_id"), value("client_secret"))
    }

    fn repeated(&self) -> Option<&str> {
        let names = self.0.iter().map(|(name, _)| name);
        names
            .enumerate()
            .find(|(at, name)| self.0[..*at].iter().any(|(earlier, _)| earlier == *name))
            .map(|(_, name)| name.as_str())
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| {
            kind.trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        })
}

/// The identifier and secret of HTTP Basic, if an Authorization header is there at all.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let refused = |description: &str| Refusal::oauth(StatusCode::BAD_REQUEST, "invalid_request", description);
    if values.next().is_some() {
        return Err(refused("There is more than one Authorization header."));
    }
    let word = value.to_str().unwrap_or_default();
    let (scheme, credentials) = word.split_once(' ').unwrap_or((word, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(refused(
            "The Authorization header of a token request must use the scheme Basic.",
        ));
    }
    let decoded = STANDARD
        .decode(credentials.trim())
        .map_err(|_| refused("The Basic credentials are not base64."))?;
    let colon = decoded
        .iter()
        .position(|byte| *byte == b':')
        .ok_or_else(|| refused("The Basic credentials hold no colon."))?;
    let part = |text| {
        form::component(text)
            .map_err(|error| refused(&format!("The Basic credentials cannot be decoded: {error}.")))
    };
    Ok(Some((part(&decoded[..colon])?, part(&decoded[colon + 1..])?)))
}

/// An error answer of the identity service, in one of its two shapes.
#[derive(Debug, PartialEq)]
struct Refusal(StatusCode, serde_json::Value);

impl Refusal {
    fn oauth(status: StatusCode, error: &str, description: &str) -> Self {
        Refusal(status, json!({"error": error, "error_description": description}))
    }

    fn response(&self) -> Response<Body> {
        reply::json(self.0, &self.1)
    }
}

/// Okta's own shape of an error.
pub(super) fn okta(code: &str, summary: &str) -> serde_json::Value {
    json!({
        "errorCode": code,
        "errorSummary": summary,
        "errorLink": code,
        "errorId": format!("oae{:022x}", fastrand::u128(..) >> 40),
        "errorCauses": [],
    })
}
