//! The section of the certificates in bondgate's files, and when they expire.

use askama::Template;

use super::level::Level;
use super::now::Now;
use super::text::{Clock, When};
use crate::tls::MONTH;

#[derive(Template)]
#[template(path = "certificates.html", config = "src/admin/page/askama.toml")]
pub(super) struct Certificates {
    certificates: Vec<Row>,
}

struct Row {
    of: String,
    subject: String,
    file: Option<String>,
    level: Level,
    state: &'static str,
    expires: When,
}

pub(super) fn section(now: &Now<'_>, clock: Clock) -> Certificates {
    let row = |facts: &crate::admin::CertificateFacts| {
        let certificate = &facts.certificate;
        let (level, state) = match now.until(certificate.not_after) {
            // Authorities are trusted regardless of their dates.
            Err(_) if facts.is_authority => (Level::Warning, "expired"),
            Err(_) => (Level::Failing, "expired"),
            Ok(_) if certificate.not_before > now.at => (Level::Failing, "not valid yet"),
            Ok(left) if left < MONTH => (Level::Warning, "expires soon"),
            Ok(_) => (Level::Well, "valid"),
        };
        Row {
            of: facts.of.clone(),
            subject: certificate.subject.clone(),
            file: now.is_local.then(|| facts.file.display().to_string()),
            level,
            state,
            expires: When {
                at: certificate.not_after,
                now: clock,
            },
        }
    };
    Certificates {
        certificates: now.facts.certificates.iter().map(row).collect(),
    }
}
