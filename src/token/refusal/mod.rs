//! Why the identity service issued no token, from its response: what it refuses, and who responded in its place.

use http::header::{CONTENT_ENCODING, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::failure::{FetchError, FetchErrorKind as Kind};
use super::secret_encoding::SecretMatcher;
use crate::config::{ClientAuth, Upstream, environment};
use crate::problems::network::login_page;
use crate::problems::outbound_proxy::transparent;
use crate::problems::{Problem, token as problems};
use crate::upstream::{declares_html, is_html};

/// The path of Cisco's token endpoints.
const CISCO_PATH: &str = "/oauth2/default/v1/token";

/// The token request that a response belongs to.
pub(super) struct TokenRequestContext<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) client_id: &'a str,
    pub(super) secret: SecretMatcher,
}

/// The error members of a response, in both formats: RFC 6749 §5.2, and Okta's own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorReply {
    error: Option<String>,
    #[serde(rename = "error_description")]
    description: Option<String>,
    error_code: Option<String>,
    error_summary: Option<String>,
}

impl ErrorReply {
    /// The error of a body, if it has one.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let reply: Self = serde_json::from_slice(body).ok()?;
        let is_named = |code: &Option<String>| code.as_ref().is_some_and(|code| !code.is_empty());
        (is_named(&reply.error) || is_named(&reply.error_code)).then_some(reply)
    }
}

impl TokenRequestContext<'_> {
    fn host(&self) -> &str {
        self.upstream.token_url.host()
    }

    /// Why a response is not read as a token response at all: another server responded, or the path is wrong.
    pub(super) fn not_the_service(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<FetchError> {
        let (host, code) = (self.host(), status.as_u16());
        let coding = headers
            .get(CONTENT_ENCODING)
            .map(|_| self.text(headers, &CONTENT_ENCODING));
        let coding = coding.or_else(|| body.starts_with(&[0x1f, 0x8b]).then(|| "gzip".to_owned()));
        let is_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
        if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity") && !is_json()) {
            return Some(Kind::Malformed.error(problems::response_encoded(host, coding)));
        }
        let is_html = is_html(body) || declares_html(headers) && !is_json();
        Some(match code {
            300..=399 => {
                let location = self.text(headers, &LOCATION);
                let location = location.split(['?', '#']).next().unwrap_or_default();
                let place = if location.is_empty() {
                    "an unnamed place"
                } else {
                    location
                };
                Kind::Malformed.error(problems::redirects(host, place))
            }
            429 => Kind::RateLimited.error(problems::rate_limited(host)),
            408 | 425 | 500..=599 if is_html => Kind::Unavailable.error(self.page(status, body)),
            408 | 425 | 500..=599 => Kind::Unavailable.error(problems::unavailable(host, code)),
            200..=299 if is_html => {
                Kind::Malformed.error(login_page("token request", host, self.title(body)))
            }
            407 => Kind::Malformed.error(transparent("token request", host)),
            400..=499 if is_html => Kind::Malformed.error(self.page(status, body)),
            404 | 405 | 410 => Kind::Malformed.error(self.path_wrong(status)),
            402 | 406 | 409 | 411..=424 | 426..=428 | 430..=499 if ErrorReply::parse(body).is_none() => {
                let details = status.canonical_reason().unwrap_or_default();
                Kind::Malformed.error(problems::request_refused(host, code, details))
            }
            200..=299 | 400..=499 => return None,
            _ => Kind::Malformed.error(problems::response_not_json(
                host,
                format_args!("the status {code}"),
            )),
        })
    }

    /// The refusal of a response with an error, whatever its status, or with a status of refusal.
    pub(super) fn refusal(&self, status: StatusCode, reply: ErrorReply) -> FetchError {
        let code = reply.error.or(reply.error_code).unwrap_or_default();
        let description = reply.description.or(reply.error_summary).unwrap_or_default();
        // RFC 6749 defines these for redirects, which cannot carry a 503; some servers use them here too.
        if matches!(code.as_str(), "server_error" | "temporarily_unavailable") {
            return Kind::Unavailable.error(problems::unavailable(self.host(), code));
        }
        let details = [code.as_str(), description.as_str()];
        let details: Vec<_> = details
            .into_iter()
            .filter(|text| !text.is_empty() && !self.secret.is_in(text))
            .collect();
        let details = match details[..] {
            [] => status.to_string(),
            _ => printable(&details.join(": ")),
        };
        Kind::Refused.error(self.refused(status, &code, &description.to_ascii_lowercase(), &details))
    }

    /// The part that is refused, by the error's code, then by the words of its description: Okta has one code for most.
    fn refused(&self, status: StatusCode, code: &str, description: &str, details: &str) -> Problem {
        let (host, id) = (self.host(), printable(self.client_id));
        let has = |words: &[&str]| words.iter().any(|word| description.contains(word));
        let is_inactive = has(&[
            "inactive",
            "not active",
            "not yet active",
            "disabled",
            "suspended",
        ]);
        // Keycloak and Microsoft have the same code for grants and for credentials.
        let is_of_grant = !has(&["invalid client", "client secret", "application with identifier"]);
        match code {
            "invalid_scope" => self.scope_refused(details),
            "invalid_request" if has(&["scope"]) => self.scope_refused(details),
            "invalid_request" if has(&["tenant"]) => self.path_wrong(status),
            _ if is_inactive => problems::credentials_inactive(host, id, details),
            "unauthorized_client" | "access_denied" if has(&["not authorized"]) && !has(&["grant"]) => {
                problems::credentials_inactive(host, id, details)
            }
            "access_denied" => problems::policy_refused(host, id, details),
            "unauthorized_client" | "unsupported_grant_type" | "invalid_grant" if is_of_grant => {
                problems::grant_refused(host, id, details)
            }
            "invalid_request" if has(&["multiple"]) => problems::credentials_twice(host),
            "invalid_client" | "invalid_request"
                if has(&["no client credentials", "credentials found", "client_assertion"]) =>
            {
                self.credentials_not_found()
            }
            "invalid_request" if has(&["credential", "client_id", "client id"]) => {
                self.credentials_not_found()
            }
            "invalid_request" => problems::request_refused(host, status.as_u16(), details),
            _ => self.wrong_environment().unwrap_or_else(|| {
                let hint = self.environment_hint();
                if has(&["secret"]) {
                    problems::secret_refused(host, id)
                } else if has(&[
                    "client_id",
                    "client id",
                    "unknown client",
                    "client not found",
                    "application with identifier",
                ]) {
                    problems::client_id_unknown(host, id, hint)
                } else {
                    problems::credentials_refused(host, details, hint)
                }
            }),
        }
    }

    fn scope_refused(&self, details: &str) -> Problem {
        match self.upstream.scope.as_str() {
            "" => problems::scope_refused(self.host(), "a request without a scope", details, ""),
            scope => {
                let requested = format_args!("the requested scope \"{scope}\"");
                problems::scope_refused(self.host(), requested, details, "; for Smart Bonding remove it")
            }
        }
    }

    fn path_wrong(&self, status: StatusCode) -> Problem {
        let path = self.upstream.token_url.path();
        let wrong = if path == CISCO_PATH { "host" } else { "path" };
        problems::path_wrong(self.host(), path, status.as_u16(), wrong)
    }

    fn credentials_not_found(&self) -> Problem {
        let (sent, other) = match self.upstream.client_auth {
            ClientAuth::Form => ("form", "query"),
            ClientAuth::Query => ("query", "form"),
            ClientAuth::Mixed => ("mixed", "form"),
            ClientAuth::Basic => ("basic", "form"),
        };
        problems::credentials_not_found(self.host(), sent, other)
    }

    /// The preset is of one environment, and the host of the other.
    fn wrong_environment(&self) -> Option<Problem> {
        let (host, preset) = (self.host(), self.upstream.preset.as_str());
        let of_host = environment::of_host(host)?;
        let is_other = environment::of_preset(preset).is_some_and(|own| own != of_host);
        let other = format_args!("the preset is {preset}");
        is_other.then(|| problems::wrong_environment(other, host, of_host))
    }

    /// What to do if the credentials are of another environment. Another preset has an effect only if url or token_url is
    /// the preset's.
    fn environment_hint(&self) -> &'static str {
        let Upstream {
            preset,
            url,
            token_url,
            ..
        } = self.upstream;
        let mut endpoints = [url, token_url].into_iter();
        let is_of_preset = endpoints.any(|endpoint| environment::of_host(endpoint.host()).is_some());
        match environment::of_preset(preset).filter(|_| is_of_preset) {
            Some("stage") => {
                "if the credentials were issued for production, set preset = \"smart-bonding-prod\""
            }
            Some(_) => "if the credentials were issued for stage, set preset = \"smart-bonding-stage\"",
            None => "url and token_url must be of the environment that the credentials were issued for",
        }
    }

    fn page(&self, status: StatusCode, body: &[u8]) -> Problem {
        problems::page(self.host(), status.as_u16(), self.title(body))
    }

    /// The title of an HTML page, to name the device that sent it.
    fn title(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let lower = text.to_ascii_lowercase();
        let title = lower.find("<title").and_then(|at| {
            let start = at + lower[at..].find('>')? + 1;
            let end = start + lower[start..].find("</title")?;
            Some(printable(text[start..end].trim()))
        });
        match title.filter(|title| !title.is_empty() && !self.secret.is_in(title)) {
            Some(title) => format!(" (\"{title}\")"),
            None => String::new(),
        }
    }

    fn text(&self, headers: &HeaderMap, name: &HeaderName) -> String {
        let value = headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(value);
        if self.secret.is_in(&text) {
            String::new()
        } else {
            printable(&text)
        }
    }
}

/// A text from the identity service, made safe for the log: one line, bounded, visible ASCII.
fn printable(text: &str) -> String {
    let is_visible = |c: char| c.is_ascii_graphic() || c == ' ';
    let visible = text.chars().map(|c| if is_visible(c) { c } else { '?' });
    visible.take(200).collect()
}

#[cfg(test)]
pub(super) mod tests;
