//! PEM files: which blocks of a file are loaded, and which are not.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::zeroize::Zeroizing;

use crate::config::text;
use crate::platform::shell::quoted;
use crate::problems::{Problem, files};

/// The largest file: bundles of authorities have half a MiB.
const MOST_MIB: u64 = 16;
const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";
const CERTIFICATE: &str = "CERTIFICATE";
const PEM_FORM: &str = "write it as PEM, from \"-----BEGIN CERTIFICATE-----\" on";

/// A block of a PEM file.
struct Block<'a> {
    /// The line of its BEGIN, from 1.
    line: usize,
    label: &'a str,
    content: Content,
}

enum Content {
    Data(Zeroizing<Vec<u8>>),
    /// A private key of OpenSSL's older form, behind a password.
    Encrypted,
    /// Behind other text on its line, where it does not count.
    Prefixed,
    Damaged,
}

/// What a file holds in place of PEM.
enum BinaryForm {
    Der,
    Pkcs7,
    Pkcs12,
}

/// The certificates of a file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let bytes = text::read(path, MOST_MIB)?;
    let file = &quoted(path);
    match binary_form(&bytes) {
        Some(BinaryForm::Der) => return Err(files::certificate_in_der(file)),
        Some(BinaryForm::Pkcs7) => return Err(files::in_pkcs7(file, " -inform DER")),
        Some(BinaryForm::Pkcs12) => return Err(files::in_pkcs12(file, "-nokeys")),
        None => {}
    }
    let blocks = blocks(text::decode(&bytes, path)?);
    let mut found = Vec::new();
    for Block { line, content, .. } in blocks.iter().filter(|block| block.label == CERTIFICATE) {
        let certificate = match content {
            Content::Data(der) => CertificateDer::from(der.to_vec()),
            Content::Prefixed => continue,
            Content::Damaged | Content::Encrypted => return Err(files::pem_block_damaged(file, line)),
        };
        let parsed = RootCertStore::empty().add(certificate.clone());
        parsed.map_err(|_| files::pem_block_damaged(path.display(), line))?;
        found.push(certificate);
    }
    if !found.is_empty() {
        return Ok(found);
    }
    let is_request = |block: &Block<'_>| block.label.ends_with("CERTIFICATE REQUEST");
    let is_pkcs7 = |block: &Block<'_>| ["PKCS7", "CMS"].contains(&block.label);
    Err(match blocks.iter().find(|block| block.label != CERTIFICATE) {
        Some(block) if is_pkcs7(block) => files::in_pkcs7(file, ""),
        Some(block) if block.label == "TRUSTED CERTIFICATE" => files::only_trusted_certificates(file),
        Some(block) if is_request(block) => {
            let remedy =
                "let an authority sign the request, and set the key to the certificate that it returns";
            files::no_certificate(file, "a request for one", remedy)
        }
        Some(block) if block.is_private_key() => {
            let remedy = "set the key to the file of the certificate; a private key stays secret, and is not needed here";
            files::no_certificate(file, "a private key", remedy)
        }
        Some(block) => files::no_certificate(file, format_args!("the block {}", block.label), PEM_FORM),
        None => files::no_certificate(file, "other text", PEM_FORM),
    })
}

/// The first private key of a file.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let bytes = text::read(path, MOST_MIB)?;
    let file = &quoted(path);
    match binary_form(&bytes) {
        Some(BinaryForm::Pkcs12) => return Err(files::in_pkcs12(file, "-nocerts -nodes")),
        Some(_) => return Err(files::key_in_der(file)),
        None => {}
    }
    let blocks = blocks(text::decode(&bytes, path)?);
    let Some(block) = blocks.iter().find(|block| block.is_private_key()) else {
        return Err(files::no_private_key(file));
    };
    let damaged = || files::pem_block_damaged(path.display(), block.line);
    match (&block.content, key_kind(block.label)) {
        (Content::Encrypted, _) | (Content::Data(_), None) => Err(files::key_encrypted(file)),
        (Content::Data(der), Some(kind)) => PrivateKeyDer::from_pem(kind, der.to_vec()).ok_or_else(damaged),
        (Content::Damaged | Content::Prefixed, _) => Err(damaged()),
    }
}

/// A problem for each block of a file that is not loaded. `keys` are the names of the keys that name the file.
pub(super) fn unloaded_blocks(path: &Path, keys: &[&str]) -> Vec<Problem> {
    let Ok(bytes) = text::read(path, MOST_MIB) else {
        return Vec::new();
    };
    let blocks = text::decode(&bytes, path).map(blocks).unwrap_or_default();
    let of_certificates = keys.iter().any(|key| *key != "key_file");
    let key = blocks.iter().find(|block| block.is_private_key());
    let key_line = key.filter(|_| keys.contains(&"key_file")).map(|block| block.line);
    let is_loaded = |block: &&Block<'_>| {
        let is_certificate = block.label == CERTIFICATE && !matches!(block.content, Content::Prefixed);
        // `openssl ecparam` writes the parameters of a key in front of it, which the key repeats.
        let is_of_key = key_line.is_some() && block.label == "EC PARAMETERS";
        is_certificate && of_certificates || key_line == Some(block.line) || is_of_key
    };
    let (loaded, unloaded): (Vec<_>, Vec<_>) = blocks.iter().partition(is_loaded);
    if loaded.is_empty() {
        // That is an error, which names the form.
        return Vec::new();
    }
    let problem = |Block { line, label, .. }: &Block<'_>| match *label {
        "TRUSTED CERTIFICATE" => files::trusted_certificate(path.display(), line),
        label => files::pem_block_not_loaded(path.display(), line, label),
    };
    unloaded.into_iter().map(problem).collect()
}

impl Block<'_> {
    fn is_private_key(&self) -> bool {
        let is_key = key_kind(self.label).is_some() || self.label == "ENCRYPTED PRIVATE KEY";
        is_key && !matches!(self.content, Content::Prefixed)
    }
}

fn key_kind(label: &str) -> Option<SectionKind> {
    match label {
        "PRIVATE KEY" => Some(SectionKind::PrivateKey),
        "RSA PRIVATE KEY" => Some(SectionKind::RsaPrivateKey),
        "EC PRIVATE KEY" => Some(SectionKind::EcPrivateKey),
        _ => None,
    }
}

/// DER begins with a SEQUENCE (0x30), which is "0" as text and begins no PEM file.
fn binary_form(bytes: &[u8]) -> Option<BinaryForm> {
    const SIGNED_DATA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    const VERSION_3: &[u8] = &[0x02, 0x01, 0x03];
    let [0x30, length, rest @ ..] = bytes else {
        return None;
    };
    // A length of 0x80 and more has that many bytes of its own; 0x80 itself is a length without an end.
    let own = usize::from(length.checked_sub(0x80).unwrap_or(0));
    let content = rest.get(own..)?;
    let is_text = bytes
        .iter()
        .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
    if is_text {
        return None;
    }
    Some(if content.starts_with(SIGNED_DATA) {
        BinaryForm::Pkcs7
    } else if content.starts_with(VERSION_3) {
        BinaryForm::Pkcs12
    } else {
        BinaryForm::Der
    })
}

/// The blocks of a text. A block may be indented, on one line, or begin directly behind another one. Text between blocks is
/// skipped, and so are blocks behind a `#`.
fn blocks(text: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut end) = (Vec::new(), 0);
    while let Some(found) = text[end..].find(BEGIN) {
        let begin = end + found;
        let line_start = text[end..begin]
            .rfind(['\n', '\r'])
            .map_or(end, |at| end + at + 1);
        let before = text[line_start..begin].trim();
        let inside = &text[begin + BEGIN.len()..];
        let (label, content, length) = block(inside);
        end = begin + BEGIN.len() + length;
        let content = if before.is_empty() {
            content
        } else {
            Content::Prefixed
        };
        if !before.starts_with('#') {
            let line = text[..begin].matches('\n').count() + 1;
            blocks.push(Block { line, label, content });
        }
    }
    blocks
}

/// The label and the content of a block, and its length from the label on.
fn block(text: &str) -> (&str, Content, usize) {
    let Some((label, body)) = text.split_once(DASHES).filter(|(label, _)| !label.contains('\n')) else {
        return ("without a label", Content::Damaged, 0);
    };
    let begun = label.len() + DASHES.len();
    let Some((body, _)) = body.split_once(&format!("-----END {label}-----")) else {
        return (label, Content::Damaged, begun);
    };
    if body.contains(BEGIN) {
        return (label, Content::Damaged, begun);
    }
    let length = begun + body.len() + "-----END ".len() + begun;
    if body.contains(",ENCRYPTED") {
        return (label, Content::Encrypted, length);
    }
    let body: Zeroizing<Vec<u8>> =
        Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    let data = BASE64_STANDARD.decode(&*body).map(Zeroizing::new);
    (label, data.map_or(Content::Damaged, Content::Data), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> String {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        issued.cert.pem().replace('\r', "")
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn count(text: &str) -> usize {
        certificates(file(text).path()).unwrap().len()
    }

    #[test]
    fn a_block_is_loaded_however_editors_have_moved_it() {
        let one = certificate();
        for text in [
            one.clone(),
            format!("\u{feff}{one}"),
            one.replace('\n', "\r\n"),
            one.replace('\n', " "),
            one.replace('\n', "\n  "),
            format!("subject=a\n{one}"),
        ] {
            assert_eq!(count(&format!("{text}{one}")), 2, "{text}");
        }
        assert_eq!(
            count(&format!("{}{one}", one.trim_end())),
            2,
            "no line break between two"
        );
    }

    #[test]
    fn each_block_that_is_not_loaded_is_named_with_its_line() {
        let one = certificate();
        let trusted = one.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        let commented = one.replace('\n', "\n# ");
        let lines = one.matches('\n').count();
        let text = format!(
            "{one}{trusted}# {commented}\nx {one}{}",
            one.replace("CERTIFICATE", "X509 CRL")
        );
        let found = unloaded_blocks(file(&text).path(), &["ca_file"]);
        let codes: Vec<_> = found.iter().map(Problem::code).collect();
        assert_eq!(
            codes,
            [
                "pem-trusted-certificate",
                "pem-block-not-loaded",
                "pem-block-not-loaded"
            ]
        );
        for (problem, line) in found.iter().zip([lines + 1, 3 * lines + 2, 4 * lines + 2]) {
            assert!(
                problem.cause().contains(&format!("at line {line} of")),
                "{problem}"
            );
        }
        assert_eq!(count(&text), 1);
        assert!(unloaded_blocks(file(&one).path(), &["ca_file"]).is_empty());
        assert!(unloaded_blocks(file(&one).path(), &["key_file", "certificate_file"]).is_empty());
    }

    #[test]
    fn a_damaged_block_is_an_error_with_its_line() {
        let one = certificate();
        let lines = one.matches('\n').count();
        let cut = one.replace("-----END CERTIFICATE-----\n", "");
        for damaged in [
            cut.clone(),
            format!("{cut}{one}"),
            one.replace("\nMII", "\n!II"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
        ] {
            let problem = certificates(file(&format!("{one}{damaged}")).path()).unwrap_err();
            assert_eq!(problem.code(), "pem-block-damaged");
            assert!(
                problem.cause().contains(&format!("line {} of", lines + 1)),
                "{problem}"
            );
        }
    }

    #[test]
    fn a_key_behind_a_password_and_one_of_another_form_are_told_apart() {
        for text in [
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
        ] {
            assert_eq!(
                private_key(file(text).path()).unwrap_err().code(),
                "key-encrypted"
            );
        }
        let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
        for text in [openssh, &certificate()] {
            let problem = private_key(file(text).path()).unwrap_err();
            assert_eq!(problem.code(), "no-private-key-in-file");
        }
    }
}
