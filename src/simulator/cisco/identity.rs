//! The identity service: issues tokens for client credentials, like Cisco's Okta server, in any of the four request
//! shapes in use.
//!
//! It is stricter than Okta in one point: it reports what cannot be form-decoded, instead of a wrong secret.

use std::collections::HashMap;

use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Uri};
use serde_json::json;

use super::form;
use super::responses::{self, JsonError, okta_error};
use super::tokens::Tokens;
use crate::simulator::exchange::InProgress;
use crate::simulator::options::{ExpiresIn, OlderTokens, Options, TokenReuse, UnknownClient};
use crate::simulator::record::ClientAuth;

const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Responds to a token request.
pub(super) async fn token(
    Extension(exchange): InProgress,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, JsonError> {
    let login = Login::parse(uri.query().unwrap_or_default(), &headers, &body)?;
    exchange.update(|seen| seen.client_auth = Some(login.shape));
    let simulation = &exchange.simulation;
    let options = simulation.options();
    login.authenticate(&options)?;
    exchange.update(|seen| seen.token_client = Some(login.id.clone()));
    Ok(issue(&simulation.tokens, &options, &login.id))
}

/// Responds to a token request with another method than POST.
pub(super) async fn method_not_allowed() -> impl IntoResponse {
    let summary = "The endpoint does not support the provided HTTP method";
    let error = okta_error(405, "E0000022", summary);
    ([(ALLOW, "POST")], error).into_response()
}

fn issue(tokens: &Tokens, options: &Options, client: &str) -> Response {
    let reused = match options.token_reuse {
        TokenReuse::Never => None,
        TokenReuse::UntilExpiry => tokens.newest_of(client),
    };
    let (token, left) = reused.unwrap_or_else(|| {
        if options.older_tokens == OlderTokens::Revoked {
            tokens.revoke(Some(client));
        }
        let lifetime = options.token_lifetime;
        (tokens.issue(client, lifetime, options.token_bytes), lifetime)
    });
    let seconds = left.as_secs();
    let expires_in = match &options.expires_in {
        ExpiresIn::RoundedUp if left.subsec_nanos() > 0 => format!(r#","expires_in":{}"#, seconds + 1),
        ExpiresIn::Lifetime | ExpiresIn::RoundedUp => format!(r#","expires_in":{seconds}"#),
        ExpiresIn::Raw(raw) => format!(r#","expires_in":{raw}"#),
        ExpiresIn::Missing => String::new(),
    };
    let body = format!(r#"{{"access_token":"{token}","token_type":"Bearer"{expires_in}}}"#);
    let response = responses::json(200, body);
    ([(CACHE_CONTROL, "no-cache, no-store")], response).into_response()
}

/// The content of a token request, not yet authenticated.
struct Login {
    shape: ClientAuth,
    id: String,
    secret: String,
    grant_type: Option<String>,
}

impl Login {
    fn parse(query: &str, headers: &HeaderMap, body: &[u8]) -> Result<Self, JsonError> {
        let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !content_type.to_ascii_lowercase().starts_with(FORM) {
            let summary = "Bad request. Send Content-Type: application/x-www-form-urlencoded.";
            return Err(okta_error(415, "E0000021", summary));
        }
        let mut query = parameters("query", query.as_bytes())?;
        let mut form = parameters("body", body)?;
        let form_grant = form.remove("grant_type");
        let (shape, (id, secret)) = match (basic(headers)?, client(&mut query), client(&mut form)) {
            (Some(client), None, None) => (ClientAuth::Basic, client),
            (None, Some(client), None) if form_grant.is_some() => (ClientAuth::Mixed, client),
            (None, Some(client), None) => (ClientAuth::Query, client),
            (None, None, Some(client)) => (ClientAuth::Form, client),
            (None, None, None) => return Err(invalid_client("No client credentials found.")),
            _ => {
                return Err(invalid_request(
                    "Cannot supply multiple client credentials. Use one place.",
                ));
            }
        };
        Ok(Login {
            shape,
            id,
            secret,
            grant_type: form_grant.or_else(|| query.remove("grant_type")),
        })
    }

    fn authenticate(&self, options: &Options) -> Result<(), JsonError> {
        let client = options.clients.iter().find(|client| client.id == self.id);
        let Some(client) = client else {
            let status = match options.unknown_client {
                UnknownClient::BadRequest => 400,
                UnknownClient::Unauthorized => 401,
            };
            let summary = "Invalid value for 'client_id' parameter.";
            return Err(okta_error(status, "invalid_client", summary));
        };
        if client.secret != self.secret {
            let description = "The client secret supplied for a confidential client is invalid.";
            return Err(invalid_client(description));
        }
        if self.grant_type.as_deref() != Some("client_credentials") {
            let description = "The grant type is not supported. Send grant_type=client_credentials.";
            return Err(error(400, "unsupported_grant_type", description));
        }
        Ok(())
    }
}

type Parameters = HashMap<String, String>;

fn parameters(place: &str, text: &[u8]) -> Result<Parameters, JsonError> {
    let undecodable = |error| invalid_request(&format!("The {place} cannot be decoded: {error}."));
    let mut parameters = Parameters::new();
    for (name, value) in form::pairs(text).map_err(undecodable)? {
        let description = format!("The parameter '{name}' is given more than once.");
        if parameters.insert(name, value).is_some() {
            return Err(invalid_request(&description));
        }
    }
    Ok(parameters)
}

/// The client id and secret among the parameters, if there is either.
fn client(parameters: &mut Parameters) -> Option<(String, String)> {
    match (parameters.remove("client_id"), parameters.remove("client_secret")) {
        (None, None) => None,
        (id, secret) => Some((id.unwrap_or_default(), secret.unwrap_or_default())),
    }
}

/// The client id and secret of HTTP Basic, if there is an Authorization header.
fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, JsonError> {
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
    let value = match values[..] {
        [] => return Ok(None),
        [value] => value,
        _ => return Err(invalid_request("There is more than one Authorization header.")),
    };
    let value = value.to_str().unwrap_or_default();
    let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("Basic") {
        return Err(invalid_request(
            "The Authorization header must use the scheme Basic.",
        ));
    }
    let decoded = STANDARD.decode(credentials.trim()).unwrap_or_default();
    let text = String::from_utf8(decoded).unwrap_or_default();
    let Some((id, secret)) = text.split_once(':') else {
        return Err(invalid_request(
            "The credentials are not the base64 of an id, a colon and a secret.",
        ));
    };
    let value = |text| {
        let value = form::value(text);
        value.map_err(|error| invalid_request(&format!("The credentials cannot be decoded: {error}.")))
    };
    Ok(Some((value(id)?, value(secret)?)))
}

fn invalid_request(description: &str) -> JsonError {
    error(400, "invalid_request", description)
}

fn invalid_client(description: &str) -> JsonError {
    error(401, "invalid_client", description)
}

/// An error in the shape of OAuth 2.0.
fn error(status: u16, code: &str, description: &str) -> JsonError {
    let body = json!({"error": code, "error_description": description});
    (responses::code(status), Json(body))
}
