//! The simulator's certificate authority and server certificate, made anew at each start.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::calendar;

/// The server's TLS configuration, and the PEM of the authority that its clients must trust.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) server: Arc<ServerConfig>,
    pub(super) ca_pem: String,
}

impl Certificate {
    /// A certificate for localhost, its addresses and the `names`.
    pub(super) fn new(names: &[String]) -> io::Result<Self> {
        let mut authority = CertificateParams::default();
        authority
            .distinguished_name
            .push(DnType::CommonName, "bondgate simulator CA");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate().map_err(io::Error::other)?;
        let ca_pem = authority
            .self_signed(&authority_key)
            .map_err(io::Error::other)?
            .pem();

        let mut dns_names = vec!["localhost".to_owned()];
        dns_names.extend(names.iter().cloned());
        let mut leaf = CertificateParams::new(dns_names)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        leaf.distinguished_name
            .push(DnType::CommonName, "bondgate simulator");
        // Some clients refuse a server certificate that is good for more than 825 days.
        let year = i32::try_from(calendar::year(SystemTime::now())).map_err(io::Error::other)?;
        leaf.not_before = date_time_ymd(year - 1, 12, 1);
        leaf.not_after = date_time_ymd(year + 1, 12, 31);
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            leaf.subject_alt_names.push(SanType::IpAddress(address));
        }
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let leaf_key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = Issuer::new(authority, authority_key);
        let leaf = leaf.signed_by(&leaf_key, &issuer).map_err(io::Error::other)?;

        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .map_err(io::Error::other)?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Certificate {
            server: Arc::new(server),
            ca_pem,
        })
    }
}
