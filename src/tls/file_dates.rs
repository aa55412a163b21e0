//! The dates of certificates in files of this machine.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use super::clock::{clock_problem, date};
use super::pem;
use crate::platform::shell::quoted;
use crate::problems::{Problem, files, tls as problems};

/// A certificate in a file, as the status page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCertificate {
    /// Whom it is for.
    pub subject: String,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

/// A certificate that expires sooner is reported.
pub const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The certificates of a file; none of one that cannot be read.
#[must_use]
pub fn file_certificates(path: &Path) -> Vec<FileCertificate> {
    let certificates = pem::certificates(path).unwrap_or_default();
    certificates.iter().filter_map(|der| parse(der)).collect()
}

fn parse(der: &[u8]) -> Option<FileCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject: String = certificate.subject().to_string();
    let validity = certificate.validity();
    Some(FileCertificate {
        subject: subject
            .chars()
            .filter(|char| !char.is_control())
            .take(200)
            .collect(),
        not_before: at(validity.not_before),
        not_after: at(validity.not_after),
    })
}

/// A problem for each certificate of a file that is not valid now, or in a month. Authorities are trusted regardless of their
/// dates.
#[must_use]
pub fn date_problems(path: &Path, are_authorities: bool) -> Vec<Problem> {
    let now = SystemTime::now();
    if clock_problem(now).is_some() {
        return Vec::new();
    }
    let file = quoted(path);
    let problem = |certificate: FileCertificate| {
        let FileCertificate {
            subject,
            not_before,
            not_after,
        } = certificate;
        if not_after < now && are_authorities {
            Some(files::authority_expired(&file, subject, date(not_after)))
        } else if not_after < now {
            Some(files::certificate_file_expired(
                &file,
                subject,
                date(not_after),
                date(now),
            ))
        } else if not_before > now && !are_authorities {
            Some(files::certificate_file_not_yet_valid(
                &file,
                subject,
                date(not_before),
                date(now),
            ))
        } else if not_after < now + MONTH {
            let certificate = format!("{subject} in {file}");
            Some(problems::certificate_expires_soon(certificate, date(not_after)))
        } else {
            None
        }
    };
    file_certificates(path).into_iter().filter_map(problem).collect()
}

/// When the first of these certificates expires.
pub(super) fn earliest_expiry(certificates: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let parsed = certificates.iter().filter_map(|der| parse(der));
    parsed.map(|certificate| certificate.not_after).min()
}

fn at(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}
