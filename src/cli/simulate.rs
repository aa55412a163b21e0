//! `bondgate simulate`: the simulator of Cisco alone, for people who build an integration.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use crate::platform::signals;
use crate::simulator::{Client, Handle, Options, Simulator};

const EXAMPLE: &str = r#"Example session:
  bondgate simulate --ca-file ca.pem      # prints its URLs, its credentials and what to try

  # the next pull loses its message and its response
  curl http://127.0.0.1:8444/faults -d '{"on":"pull","kind":"reset","after_effect":true}'
  # the recorded requests, and help for the control API
  curl http://127.0.0.1:8444/seen
  curl http://127.0.0.1:8444/

Each start generates a new certificate authority: clients must read --ca-file again."#;

/// Simulate Cisco on this machine: the identity service and the Smart Bonding API, over TLS
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    options: Options,

    /// Write the certificate authority, which clients must trust, to this file [default: a file in the directory
    /// for temporary files, named at the start]
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,

    /// How many sample messages each queue holds at the start
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(..=10_000))]
    messages: u16,
}

/// Runs the simulator until SIGINT or SIGTERM.
pub(crate) async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let interrupted = signals::interrupted().context("cannot listen for signals")?;
    let clients = args.options.clients.clone();
    let simulator = Simulator::bind(args.options).await.map_err(with_hint)?;
    let cisco = simulator.handle();
    cisco.put_samples(args.messages.into());
    let ca_file = match args.ca_file {
        Some(path) => fs::write(&path, cisco.ca_pem())
            .with_context(|| format!("cannot write the CA file {}", path.display()))
            .map(|()| path)?,
        None => write_temporary_ca(&cisco).context("choose another CA file with --ca-file PATH")?,
    };
    // A closed stdout must not end the simulator.
    let _ = io::stdout().write_all(banner(&cisco, &ca_file, &clients).as_bytes());
    simulator.run(interrupted).await.context("the simulator failed")
}

/// Adds what to do about an address that cannot be bound.
fn with_hint(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "{error}: choose another with --listen ADDRESS:PORT or --control ADDRESS:PORT (port 0 takes a free one)"
        ),
        _ => anyhow::Error::new(error).context("the simulator cannot start"),
    }
}

/// Writes the certificate authority to a file in the directory for temporary files.
pub(super) fn write_temporary_ca(cisco: &Handle) -> anyhow::Result<PathBuf> {
    let name = format!("bondgate-simulator-{}.pem", cisco.address().port());
    let path = std::env::temp_dir().join(name);
    replace(&path, cisco.ca_pem()).with_context(|| format!("cannot write the CA file {}", path.display()))?;
    Ok(path)
}

/// Other users may write to the directory too: a file or link with this name is removed, never written through.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path)?.write_all(text.as_bytes()),
    }
}

fn banner(cisco: &Handle, ca_file: &Path, clients: &[Client]) -> String {
    let credentials = clients.iter();
    let credentials =
        credentials.map(|client| format!("  client id, secret  {}  {}", client.id, client.secret));
    let credentials = credentials.collect::<Vec<_>>().join("\n");
    let first = clients.first();
    let (id, secret) = first.map_or(("", ""), |client| (&client.id, &client.secret));
    let (url, token_url, control) = (cisco.url(), cisco.token_url(), cisco.control_url());
    let ca_file = std::path::absolute(ca_file).unwrap_or_else(|_| ca_file.to_owned());
    let ca_file = ca_file.display().to_string();
    let [toml_id, toml_secret, toml_ca] =
        [id, secret, &ca_file].map(|text| toml::Value::from(text).to_string());
    let (id, secret, ca) = (quote(id), quote(secret), quote(&ca_file));
    format!(
        r#"This is a simulator of Cisco's Smart Bonding API and identity service. Nothing here reaches Cisco.

  API                {url}
  token URL          {token_url}
  CA file            {ca_file}
{credentials}
  control API        {control}

A bondgate.toml that uses it:
  [upstream.cisco]
  preset = "smart-bonding-stage"
  client_id = {toml_id}
  client_secret = {toml_secret}
  url = "{url}"
  token_url = "{token_url}"
  ca_file = {toml_ca}

Try:
  TOKEN=$(curl -sS --cacert {ca} {token_url} \
    -d grant_type=client_credentials --data-urlencode client_id={id} --data-urlencode client_secret={secret} \
    | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
  curl --cacert {ca} -H "Authorization: Bearer $TOKEN" \
    {url}/sb-partner-oauth-proxy-api/rest/v1/pull/call
  curl {control}/

Ctrl-C ends it.
"#
    )
}

/// Quotes a word for the shell.
fn quote(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;
    use crate::simulator::ExpiresIn;

    fn parse(words: &[&str]) -> Result<Options, clap::Error> {
        let command = SimulateArgs::augment_args(clap::Command::new("simulate"));
        let words = std::iter::once("simulate").chain(words.iter().copied());
        let args = SimulateArgs::from_arg_matches(&command.try_get_matches_from(words)?)?;
        Ok(args.options)
    }

    #[test]
    fn without_options_the_simulator_has_its_defaults_on_fixed_ports() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.listen.to_string(), "127.0.0.1:8443");
        assert_eq!(options.control.to_string(), "127.0.0.1:8444");
        let free_ports = Options {
            listen: ([127, 0, 0, 1], 0).into(),
            control: ([127, 0, 0, 1], 0).into(),
            ..options
        };
        assert_eq!(format!("{free_ports:?}"), format!("{:?}", Options::default()));
    }

    #[test]
    fn a_secret_may_hold_colons_and_must_not_be_missing() {
        let clients = parse(&["--client", "a:b:c", "--client", "d:e"]).unwrap().clients;
        assert_eq!((&*clients[0].id, &*clients[0].secret), ("a", "b:c"));
        assert_eq!(clients.len(), 2);
        assert!(parse(&["--client", "a"]).is_err());
        assert!(parse(&["--client", "a:"]).is_err());
    }

    #[test]
    fn expires_in_is_sent_as_given() {
        let sent = |text| parse(&["--expires-in", text]).unwrap().expires_in;
        assert_eq!(sent("-1"), ExpiresIn::Raw("-1".to_owned()));
        assert_eq!(sent("missing"), ExpiresIn::Missing);
        assert_eq!(sent("rounded-up"), ExpiresIn::RoundedUp);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quote("/tmp/ca-1.pem"), "/tmp/ca-1.pem");
        assert_eq!(quote("it's $x"), r"'it'\''s $x'");
        assert_eq!(quote(""), "''");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_with_the_ca_files_name_is_replaced_and_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        replace(&link, "pem").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&link).unwrap(), "pem");
    }
}
