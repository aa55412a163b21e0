//! Certificates and keys in files of this machine: what they hold, and until when.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bondgate::simulator::{Handle, Options};

use super::{check_with, lines, run};
use crate::harness::{Ended, Setup, bondgate, finished, simulator};

/// Issues a certificate with a key of its own, valid from and for so many days, and a request for one.
fn issue(directory: &Path, name: &str, from: i64, to: i64) {
    let day = |offset: i64| {
        let days = Duration::from_secs(offset.unsigned_abs() * 24 * 60 * 60);
        match offset {
            ..0 => SystemTime::now() - days,
            _ => SystemTime::now() + days,
        }
    };
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    (params.not_before, params.not_after) = (day(from).into(), day(to).into());
    let key = rcgen::KeyPair::generate().unwrap();
    let write = |extension, text: String| {
        std::fs::write(directory.join(format!("{name}.{extension}")), text).unwrap();
    };
    write("csr", params.serialize_request(&key).unwrap().pem().unwrap());
    write("pem", params.self_signed(&key).unwrap().pem());
    write("key", key.serialize_pem());
}

fn path(setup: &Setup, name: &str) -> String {
    setup.directory.path().join(name).to_str().unwrap().to_owned()
}

/// Checks a listener with this certificate and key.
async fn check(setup: &Setup, certificate: &str, key: &str) -> Ended {
    let variable = |name: &str| format!("BONDGATE__LISTENER__0__TLS__{name}_FILE");
    let (certificate, key) = (path(setup, certificate), path(setup, key));
    check_with(
        setup,
        &[
            (&variable("CERTIFICATE"), certificate.as_str()),
            (&variable("KEY"), key.as_str()),
        ],
    )
    .await
}

async fn setup() -> (Handle, Setup) {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    (cisco, setup)
}

#[tokio::test]
async fn the_dates_of_a_listeners_certificate_are_checked_and_an_expired_one_is_a_warning_at_the_start() {
    let (_cisco, setup) = setup().await;
    for (name, from, to, exit, code) in [
        ("good", -1, 90, 0, ""),
        ("soon", -1, 29, 0, "certificate-expires-soon"),
        ("later", 2, 90, 3, "certificate-file-not-yet-valid"),
        ("expired", -9, -2, 3, "certificate-file-expired"),
    ] {
        issue(setup.directory.path(), name, from, to);
        let ended = check(&setup, &format!("{name}.pem"), &format!("{name}.key")).await;
        let found = usize::from(!code.is_empty());
        assert_eq!(
            (ended.code, lines(&ended, code).len()),
            (Some(exit), found),
            "{ended:?}"
        );
        assert!(!ended.stdout.contains("certificate-") || found == 1, "{ended:?}");
    }
    let certificate = path(&setup, "expired.pem");
    let key = path(&setup, "expired.key");
    let setup = setup.environment("BONDGATE__LISTENER__0__TLS__CERTIFICATE_FILE", &certificate);
    let setup = setup.environment("BONDGATE__LISTENER__0__TLS__KEY_FILE", &key);
    let mut daemon = setup.start().await;
    daemon.logged("\"problem\":\"certificate-file-expired\"").await;
    let log = daemon.log();
    let line = log.iter().find(|line| line.contains("certificate-file-expired"));
    assert!(line.is_some_and(|line| line.contains("\"WARN\"")), "{line:?}");
}

#[tokio::test]
async fn an_authority_that_has_expired_or_will_soon_is_a_warning() {
    let (_cisco, setup) = setup().await;
    let known = std::fs::read_to_string(path(&setup, "cisco-ca.pem")).unwrap();
    for (name, to, code) in [
        ("soon", 29, "certificate-expires-soon"),
        ("expired", -2, "authority-file-expired"),
    ] {
        issue(setup.directory.path(), name, -9, to);
        let other = std::fs::read_to_string(path(&setup, &format!("{name}.pem"))).unwrap();
        let file = setup.file("both.pem", &format!("{known}{other}"));
        let ended = check_with(&setup, &[("BONDGATE_CA_FILE", file.to_str().unwrap())]).await;
        assert_eq!((ended.code, lines(&ended, code).len()), (Some(0), 1), "{ended:?}");
        assert!(ended.stdout.contains(&format!("CN={name}")), "{ended:?}");
    }
}

#[tokio::test]
async fn a_key_that_does_not_fit_and_one_of_no_use_are_named_in_plain_words() {
    let (_cisco, setup) = setup().await;
    let directory = setup.directory.path();
    issue(directory, "one", -1, 90);
    issue(directory, "other", -1, 90);
    run(
        directory,
        "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key",
    );
    run(directory, "openssl genpkey -algorithm ED448 -out unknown.key");
    for (key, code) in [
        ("one.key", ""),
        ("other.key", "key-mismatch"),
        ("weak.key", "key-file-unusable"),
        ("unknown.key", "key-file-unusable"),
    ] {
        let ended = check(&setup, "one.pem", key).await;
        let found = usize::from(!code.is_empty());
        assert_eq!(lines(&ended, code).len(), found, "{ended:?}");
        assert!(!ended.stdout.contains("unexpected error"), "{ended:?}");
        assert!(
            code.is_empty() || lines(&ended, code)[0].contains("openssl pkey -in"),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn a_ca_file_without_a_certificate_is_named_with_what_it_holds() {
    let (_cisco, setup) = setup().await;
    issue(setup.directory.path(), "one", -1, 90);
    setup.file("text", "nothing\n");
    for (name, held) in [
        ("one.key", "a private key"),
        ("one.csr", "a request for one"),
        ("text", "other text"),
    ] {
        let file = path(&setup, name);
        let ended = check_with(&setup, &[("BONDGATE_CA_FILE", &file)]).await;
        let found = lines(&ended, "no-certificate-in-file");
        assert_eq!((ended.code, found.len()), (Some(3), 1), "{ended:?}");
        assert!(
            found[0].contains(&format!("holds no certificate, but {held}; ")),
            "{found:?}"
        );
    }
}

#[tokio::test]
async fn variables_that_replace_the_systems_certificates_by_nothing_are_one_problem() {
    let (_cisco, setup) = setup().await;
    let text = path(&setup, "bondgate.toml");
    for (variable, value) in [
        ("SSL_CERT_FILE", "/nowhere/at/all/ca.pem"),
        ("SSL_CERT_DIR", "/nowhere/at/all"),
        ("SSL_CERT_FILE", text.as_str()),
    ] {
        let ended = check_with(&setup, &[(variable, value)]).await;
        let found = lines(&ended, "system-roots-unusable");
        assert_eq!((ended.code, found.len()), (Some(3), 1), "{ended:?}");
        assert!(
            found[0].contains(&format!("{variable} names {value}")),
            "{found:?}"
        );
        let faults = ended
            .lines()
            .filter(|line| line.ends_with(']') && !line.starts_with("warning: "));
        assert_eq!(faults.count(), 1, "{ended:?}");
        assert!(!ended.stdout.contains("sandbox-misfit"), "{ended:?}");
    }
    let usable = path(&setup, "cisco-ca.pem");
    for also in ["", "/nowhere/at/all"] {
        let ended = check_with(&setup, &[("SSL_CERT_FILE", &usable), ("SSL_CERT_DIR", also)]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[tokio::test]
async fn a_directory_in_place_of_a_secret_is_named_with_the_file_in_it() {
    let (_cisco, setup) = setup().await;
    let mount = setup.directory.path().join("mount");
    std::fs::create_dir_all(mount.join("..data")).unwrap();
    std::fs::write(mount.join("secret"), "x").unwrap();
    let variable = "BONDGATE_CLIENT_SECRET_FILE";
    let ended = check_with(&setup, &[(variable, mount.to_str().unwrap())]).await;
    let found = lines(&ended, "file-is-directory");
    assert_eq!((ended.code, found.len()), (Some(3), 1), "{ended:?}");
    let file = mount.join("secret");
    assert!(
        found[0].contains(&format!("like {} [", file.display())),
        "{found:?}"
    );
    let mut command = bondgate();
    command.args(["check", "--config"]).arg(&mount);
    let ended = finished(command).await;
    assert_eq!(lines(&ended, "file-is-directory").len(), 1, "{ended:?}");
}
