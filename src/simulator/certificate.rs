//! The simulator's certificate authority and server certificate, generated at each start.

use std::error::Error;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivatePkcs8KeyDer;

const DAY: Duration = Duration::from_secs(86_400);

/// A TLS configuration for localhost, the loopback addresses and `names`, and the PEM of its certificate authority.
pub(super) fn generate(names: &[String]) -> Result<(ServerConfig, String), Box<dyn Error + Send + Sync>> {
    let mut ca = CertificateParams::default();
    ca.distinguished_name
        .push(DnType::CommonName, "bondgate simulator CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();

    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut leaf = CertificateParams::new([&loopback, names].concat())?;
    leaf.distinguished_name
        .push(DnType::CommonName, "bondgate simulator");
    // Some clients refuse a server certificate that is valid for more than 825 days.
    leaf.not_before = (SystemTime::now() - DAY).into();
    leaf.not_after = (SystemTime::now() + 800 * DAY).into();
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?;

    let mut tls = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((tls, ca_pem))
}
