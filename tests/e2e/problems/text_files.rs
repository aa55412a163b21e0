//! Text files as editors and Windows tools write them.

use std::path::Path;

use bondgate::simulator::{Handle, Options};

use super::{apply, check, lines, run};
use crate::harness::{DEMO_SECRET, Setup, bondgate, finished, simulator};

const MARK: &str = "\u{feff}";

/// A daemon whose client id, keys and proxy are in files of their own.
fn setup(cisco: &Handle) -> Setup {
    let setup = Setup::new();
    let keys = setup.file("keys", "name:key\n");
    let id = setup.file("id", "demo");
    let setup = setup.upstream("cisco", cisco, "demo", DEMO_SECRET, "");
    let setup = setup.listener("127.0.0.1:0", &format!("keys = {{ file = {keys:?} }}"));
    setup.environment("BONDGATE__UPSTREAM__CISCO__CLIENT_ID__FILE", id.to_str().unwrap())
}

fn rewrite(path: &Path, change: impl Fn(&str) -> Vec<u8>) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, change(&text)).unwrap();
}

fn utf_16(text: &str) -> Vec<u8> {
    let units = format!("{MARK}{text}");
    units.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[tokio::test]
async fn credentials_keys_and_certificates_saved_by_windows_tools_work() {
    let cisco = simulator(Options::default()).await;
    let setup = setup(&cisco);
    for name in ["id", "keys", "cisco.secret", "cisco-ca.pem"] {
        let path = setup.directory.path().join(name);
        rewrite(&path, |text| {
            let text = text.replace("\r\n", "\n").trim_end().replace('\n', "\r\n");
            format!("{MARK}{text}\r\n").into_bytes()
        });
    }
    let daemon = setup.start().await;
    let get = "GET /sb-partner-oauth-proxy-api/rest/v1/pull/call HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let answer = daemon
        .send(format!("{get}Authorization: Basic bmFtZTprZXk=\r\n\r\n"))
        .await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(cisco.tokens.refused(), 0);
}

#[tokio::test]
async fn a_file_in_utf_16_is_named_with_the_command_that_converts_it() {
    let cisco = simulator(Options::default()).await;
    for name in ["id", "keys", "cisco.secret", "cisco-ca.pem"] {
        let setup = setup(&cisco);
        rewrite(&setup.directory.path().join(name), utf_16);
        let ended = check(&setup).await;
        assert_eq!(ended.code, Some(3), "{name}: {ended:?}");
        let found = lines(&ended, "file-in-utf-16");
        assert_eq!(found.len(), 1, "{name}: {ended:?}");
        apply(found[0]);
        let ended = check(&setup).await;
        assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
    }
}

#[tokio::test]
async fn a_configuration_in_utf_16_or_another_encoding_is_named_with_the_command_that_converts_it() {
    let cisco = simulator(Options::default()).await;
    let latin_1 = |text: &str| [b"# f\xfcr alle\n", text.as_bytes()].concat();
    for (code, encode) in [
        ("file-in-utf-16", &utf_16 as &dyn Fn(&str) -> Vec<u8>),
        ("file-not-utf-8", &latin_1),
    ] {
        let setup = setup(&cisco);
        let file = setup.config_file();
        rewrite(&file, encode);
        let check = || async {
            let mut command = crate::harness::bondgate();
            command.args(["check", "--config"]).arg(&file);
            command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
            crate::harness::finished(command).await
        };
        let ended = check().await;
        assert_eq!((ended.code, lines(&ended, code).len()), (Some(3), 1), "{ended:?}");
        apply(lines(&ended, code)[0]);
        let ended = check().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[tokio::test]
async fn a_trusted_certificate_block_is_reported_and_its_command_converts_it() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let directory = setup.directory.path();
    run(
        directory,
        "openssl x509 -in cisco-ca.pem -trustout -addtrust serverAuth -out trusted.pem",
    );
    run(directory, "cat cisco-ca.pem trusted.pem > both.pem");
    let ca_file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    for (name, exit, code) in [
        ("trusted.pem", 3, "file-in-trusted-form"),
        ("both.pem", 0, "pem-trusted-certificate"),
    ] {
        let ended = super::check_with(&setup, &[("BONDGATE_CA_FILE", &ca_file(name))]).await;
        let found = lines(&ended, code);
        // Without any certificate it is a fault, and else a warning.
        assert_eq!((ended.code, found.len()), (Some(exit), 1), "{name}: {ended:?}");
        assert_eq!(ended.stdout.matches("TRUSTED").count(), 1, "{ended:?}");
        let converted = apply(found[0]).unwrap();
        let ended = super::check_with(&setup, &[("BONDGATE_CA_FILE", &converted)]).await;
        assert!(
            ended.code == Some(0) && !ended.stdout.contains("TRUSTED"),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn der_and_pkcs_are_identified_and_their_commands_convert_them() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let directory = setup.directory.path();
    for command in [
        "openssl x509 -in cisco-ca.pem -outform DER -out ca.der",
        "openssl crl2pkcs7 -nocrl -certfile cisco-ca.pem -out ca.p7b",
        "openssl crl2pkcs7 -nocrl -certfile cisco-ca.pem -outform DER -out ca.p7c",
        "openssl pkcs12 -export -nokeys -in cisco-ca.pem -passout pass: -out ca.p12",
    ] {
        run(directory, command);
    }
    for (name, code) in [
        ("ca.der", "file-in-der"),
        ("ca.p7b", "file-in-pkcs7"),
        ("ca.p7c", "file-in-pkcs7"),
        ("ca.p12", "file-in-pkcs12"),
    ] {
        let file = directory.join(name).to_str().unwrap().to_owned();
        let ended = super::check_with(&setup, &[("BONDGATE_CA_FILE", &file)]).await;
        let found = lines(&ended, code);
        assert_eq!((ended.code, found.len()), (Some(3), 1), "{ended:?}");
        // The command asks for the password.
        let converted = apply(&found[0].replace("-nokeys", "-nokeys -passin pass:")).unwrap();
        let ended = super::check_with(&setup, &[("BONDGATE_CA_FILE", &converted)]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[tokio::test]
async fn private_keys_in_other_forms_are_identified_and_their_commands_convert_them() {
    let cisco = simulator(Options::default()).await;
    let setup = Setup::at(&cisco);
    let directory = setup.directory.path();
    for command in [
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out certificate.pem",
        "openssl pkey -in key.pem -outform DER -out key.der",
        "openssl pkey -in key.pem -aes256 -passout pass:x -out encrypted.pem",
        "openssl pkcs12 -export -inkey key.pem -in certificate.pem -passout pass:x -out both.p12",
    ] {
        run(directory, command);
    }
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let variable = |name: &str| format!("BONDGATE__LISTENER__0__TLS__{name}_FILE");
    let with = |key: String| {
        let (certificate, setup) = (path("certificate.pem"), &setup);
        let names = (variable("CERTIFICATE"), variable("KEY"));
        async move { super::check_with(setup, &[(&names.0, &certificate), (&names.1, &key)]).await }
    };
    for (name, code) in [
        ("key.der", "key-file-in-der"),
        ("encrypted.pem", "key-encrypted"),
        ("both.p12", "file-in-pkcs12"),
        ("certificate.pem", "no-private-key-in-file"),
    ] {
        let ended = with(path(name)).await;
        let found = lines(&ended, code);
        assert_eq!((ended.code, found.len()), (Some(3), 1), "{name}: {ended:?}");
        if code != "no-private-key-in-file" {
            let converted = apply(&found[0].replace(" -in ", " -passin pass:x -in ")).unwrap();
            let ended = with(converted).await;
            assert_eq!(ended.code, Some(0), "{name}: {ended:?}");
        }
    }
}

#[tokio::test]
async fn a_pipe_in_place_of_a_log_is_refused() {
    let cisco = simulator(Options::default()).await;
    let setup = setup(&cisco);
    let pipe = setup.directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for subcommand in ["check", "run"] {
        let mut command = bondgate();
        command.arg(subcommand).arg("--config").arg(setup.config_file());
        command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
        command.env("BONDGATE__LOG__FILE", &pipe);
        let ended = finished(command).await;
        let named = lines(&ended, "file-not-regular").len();
        assert_eq!((ended.code, named), (Some(3), 1), "{subcommand}: {ended:?}");
    }
}
