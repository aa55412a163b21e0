//! Configurations and text files as they are on Windows, read by the Windows program under Wine.

use std::path::Path;

use bondgate::simulator::{Handle, Options};
use tempfile::TempDir;

use crate::harness::{DEMO_SECRET, Daemon, Ended, Setup, bondgate, finished, simulator};

const MARK: &str = "\u{feff}";

/// A path as Windows has it; Wine shows / as the drive Z.
fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display()).replace('/', "\\")
}

/// A configuration with this file of the client secret, which names it with backslashes in these quotes. The lines of the
/// configuration end as on Windows.
fn configuration(cisco: &Handle, secret: &[u8], quote: char) -> TempDir {
    let directory = Setup::at(cisco).into_file();
    let (config, file) = (
        directory.path().join("bondgate.toml"),
        directory.path().join("cisco.secret"),
    );
    std::fs::write(&file, secret).unwrap();
    let text = std::fs::read_to_string(&config).unwrap();
    let named = format!("{quote}{}{quote}", windows_path(&file));
    let text = text.replace(&format!("{file:?}"), &named).replace('\n', "\r\n");
    assert!(text.contains(&named), "{text}");
    std::fs::write(&config, format!("{MARK}{text}")).unwrap();
    directory
}

async fn check(directory: &TempDir) -> Ended {
    let mut command = bondgate();
    command.args(["check", "--config"]);
    command.arg(windows_path(&directory.path().join("bondgate.toml")));
    finished(command).await
}

#[tokio::test]
#[ignore = "needs the Windows program under Wine; run by .ci/wine"]
async fn a_configuration_and_a_secret_with_byte_order_marks_crlf_and_backslashes_work() {
    let cisco = simulator(Options::default()).await;
    let secret = format!("{MARK}{DEMO_SECRET}\r\n");
    let directory = configuration(&cisco, secret.as_bytes(), '\'');
    let mut command = bondgate();
    command.args(["run", "--config"]);
    command.arg(windows_path(&directory.path().join("bondgate.toml")));
    let mut daemon = Daemon::spawn(command, directory);
    daemon.logged("token acquired").await;
    assert_eq!(cisco.tokens.refused(), 0);
}

#[tokio::test]
#[ignore = "needs the Windows program under Wine; run by .ci/wine"]
async fn a_secret_in_utf_16_is_named() {
    let cisco = simulator(Options::default()).await;
    let units = format!("{MARK}{DEMO_SECRET}\r\n");
    let secret: Vec<u8> = units.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let directory = configuration(&cisco, &secret, '\'');
    let ended = check(&directory).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let is_named = |line: &str| line.contains("cisco.secret") && line.contains("[file-in-utf-16]");
    assert!(ended.lines().any(is_named), "{ended:?}");
}

#[tokio::test]
#[ignore = "needs the Windows program under Wine; run by .ci/wine"]
async fn backslashes_in_double_quotes_are_refused_with_the_quotes_to_use() {
    let cisco = simulator(Options::default()).await;
    let directory = configuration(&cisco, DEMO_SECRET.as_bytes(), '"');
    let ended = check(&directory).await;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let advice = "write the text in single quotes, like 'C:\\path'";
    assert!(ended.lines().any(|line| line.contains(advice)), "{ended:?}");
}
