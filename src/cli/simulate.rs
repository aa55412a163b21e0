//! `bondgate simulate`: the stand-in for Cisco alone, for people who build an integration.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::simulator::{
    BearerRejection, Behaviour, Client, EmptyQueue, ExpiresIn, Handle, OlderTokens, Options, Simulator,
    Tenant, TokenReuse, UnknownClient,
};

const EXAMPLE: &str = r#"Example session:
  bondgate simulate --ca-file ca.pem

  # a token, then a ticket, then what becomes of it
  curl --cacert ca.pem https://localhost:8443/oauth2/default/v1/token \
    -d grant_type=client_credentials -d client_id=demo -d client_secret=demo-secret
  curl --cacert ca.pem https://localhost:8443/sb-partner-oauth-proxy-api/rest/v1/push/call \
    -H "Authorization: Bearer $TOKEN" \
    -d '{"Calls":{"CustCallID":"INC1","ShortDescription":"down"},"CallStates":{"ShortName":"New"}}'
  curl --cacert ca.pem https://localhost:8443/sb-partner-oauth-proxy-api/rest/v1/pull/call \
    -H "Authorization: Bearer $TOKEN"

  # the next pull loses its message and its answer
  curl http://127.0.0.1:8444/faults -d '{"on":"pull","kind":"reset","after_effect":true}'
  # what was seen, and everything else that can be ordered
  curl http://127.0.0.1:8444/seen
  curl http://127.0.0.1:8444/

The certificate authority is made anew at each start: clients read --ca-file again."#;

/// Stands in for Cisco: the identity service and the Smart Bonding API, over TLS, on this machine
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SimulateArgs {
    /// Where to stand in for Cisco; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,

    /// Where to take orders over plain HTTP (messages, faults, what was seen); a loopback address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8444")]
    control: SocketAddr,

    /// Write the certificate authority, which clients must trust, to this file [default: a file in the directory
    /// for temporary files, named at the start]
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,

    /// A further name for the server certificate, as clients in containers use it; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,

    /// Client credentials to accept; may be repeated. Each client has a message queue of its own
    #[arg(long = "client", value_name = "ID:SECRET", default_value = "demo:demo-secret", value_parser = client)]
    clients: Vec<Client>,

    /// How many sample messages wait in each queue at the start
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u16).range(..=10_000))]
    messages: u16,

    /// How many seconds a token is good
    #[arg(long, value_name = "SECONDS", default_value_t = 3599)]
    token_lifetime: u32,

    /// How many times as fast as this machine's the clock runs by which tokens expire
    #[arg(long, value_name = "TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    clock_speed: u32,

    /// About how many bytes a token has; below 800 it is an opaque word instead of a JWT
    #[arg(long, value_name = "BYTES", default_value_t = 1100, value_parser = clap::value_parser!(u32).range(16..=60_000))]
    token_bytes: u32,

    /// What token replies say in expires_in, as JSON, if not the whole seconds that are left: "\"3599\"", -1, null;
    /// or "missing", or "rounded-up", so that a token expires up to a second before its reply says so
    #[arg(long, value_name = "JSON", allow_hyphen_values = true)]
    expires_in: Option<String>,

    /// Whose credentials are known: with "other" every login fails as stage credentials do at prod
    #[arg(long, value_name = "TENANT", value_enum, default_value_t)]
    tenant: Tenant,

    /// The status that an unknown client id gets
    #[arg(long, value_name = "STATUS", value_enum, default_value_t)]
    unknown_client: UnknownClient,

    /// Whether a client that asks again gets the same token until it expires, with expires_in counted down to 0
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    token_reuse: TokenReuse,

    /// What becomes of a client's older tokens when it gets a new one
    #[arg(long, value_name = "FATE", value_enum, default_value_t)]
    older_tokens: OlderTokens,

    /// How a missing, expired or revoked token is refused
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t)]
    bearer_rejection: BearerRejection,

    /// How a pull from an empty queue is answered
    #[arg(long, value_name = "SHAPE", value_enum, default_value_t)]
    empty_queue: EmptyQueue,
}

/// Runs the simulator until SIGINT or SIGTERM.
pub(crate) async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let messages = usize::from(args.messages);
    let ca_file = args.ca_file.clone();
    let options = args.into_options();
    let clients = options.clients.clone();

    let simulator = Simulator::bind(options).await.map_err(hinted)?;
    let handle = simulator.handle();
    handle.put_samples(messages);
    let ca_file = written_ca(ca_file, &handle)?;
    // Nobody may be reading any more; the simulator serves all the same.
    let _ = io::stdout().write_all(banner(&handle, &ca_file, &clients).as_bytes());

    simulator
        .run(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
        .await
        .context("the simulator failed")
}

impl SimulateArgs {
    fn into_options(self) -> Options {
        Options {
            listen: self.listen,
            control: self.control,
            names: self.names,
            clients: self.clients,
            token_lifetime: Duration::from_secs(self.token_lifetime.into()),
            clock_speed: self.clock_speed,
            token_bytes: self.token_bytes as usize,
            behaviour: Behaviour {
                expires_in: match self.expires_in.as_deref() {
                    None => ExpiresIn::Lifetime,
                    Some("missing") => ExpiresIn::Missing,
                    Some("rounded-up") => ExpiresIn::RoundedUp,
                    Some(raw) => ExpiresIn::Raw(raw.to_owned()),
                },
                tenant: self.tenant,
                unknown_client: self.unknown_client,
                token_reuse: self.token_reuse,
                older_tokens: self.older_tokens,
                bearer_rejection: self.bearer_rejection,
                empty_queue: self.empty_queue,
            },
        }
    }
}

fn client(text: &str) -> Result<Client, String> {
    match text.split_once(':') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => Ok(Client {
            id: id.to_owned(),
            secret: secret.to_owned(),
        }),
        _ => Err("write the client id, a colon and the secret".to_owned()),
    }
}

/// Says what can be done about an address that cannot be had.
fn hinted(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "{error}: choose another with --listen ADDRESS:PORT or --control ADDRESS:PORT (port 0 takes a free one)"
        ),
        _ => anyhow::Error::new(error).context("the simulator cannot start"),
    }
}

fn written_ca(file: Option<PathBuf>, handle: &Handle) -> anyhow::Result<PathBuf> {
    let pem = handle.ca_pem();
    if let Some(path) = file {
        fs::write(&path, pem).with_context(|| format!("cannot write the CA file {}", path.display()))?;
        return Ok(path);
    }
    let port = handle.url().rsplit(':').next().map(ToOwned::to_owned);
    let name = format!("bondgate-simulator-{}.pem", port.unwrap_or_default());
    let path = std::env::temp_dir().join(name);
    replace(&path, pem.as_bytes()).with_context(|| {
        format!(
            "cannot write the CA file {}: choose another with --ca-file PATH",
            path.display()
        )
    })?;
    Ok(path)
}

/// Others may write to the directory too: what lies there under this name is removed, never written through.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::File::create_new(path)?.write_all(text)
}

fn banner(handle: &Handle, ca_file: &Path, clients: &[Client]) -> String {
    let credentials: Vec<_> = clients
        .iter()
        .map(|client| format!("  client id, secret  {}  {}", client.id, client.secret))
        .collect();
    let credentials = credentials.join("\n");
    let first = clients.first();
    let (id, secret) = first.map_or(("", ""), |client| (&client.id, &client.secret));
    let (id, secret) = (quoted(id), quoted(secret));
    let (url, token_url) = (handle.url(), handle.token_url());
    let (control, ca_file) = (handle.control_url(), ca_file.display().to_string());
    let ca = quoted(&ca_file);
    format!(
        r#"This is a simulator of Cisco's Smart Bonding API and identity service. Nothing here reaches Cisco.

  API                {url}
  token URL          {token_url}
  CA file            {ca_file}
{credentials}
  orders and record  {control}

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

/// A word for the shell.
fn quoted(word: &str) -> String {
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

    fn parsed(words: &[&str]) -> Result<SimulateArgs, clap::Error> {
        let command = SimulateArgs::augment_args(clap::Command::new("simulate"));
        let words = std::iter::once("simulate").chain(words.iter().copied());
        SimulateArgs::from_arg_matches(&command.try_get_matches_from(words)?)
    }

    #[test]
    fn without_options_the_simulator_has_its_defaults_on_fixed_ports() {
        let options = parsed(&[]).unwrap().into_options();
        let defaults = Options::default();
        assert_eq!(options.listen.to_string(), "127.0.0.1:8443");
        assert_eq!(options.clients, defaults.clients);
        assert_eq!(options.token_lifetime, defaults.token_lifetime);
        assert_eq!(options.token_bytes, defaults.token_bytes);
        assert_eq!(options.behaviour, defaults.behaviour);
    }

    #[test]
    fn a_secret_may_hold_colons_and_must_not_be_missing() {
        let args = parsed(&["--client", "a:b:c", "--client", "d:e"]).unwrap();
        let clients = args.into_options().clients;
        assert_eq!((&*clients[0].id, &*clients[0].secret), ("a", "b:c"));
        assert_eq!(clients.len(), 2);
        assert!(parsed(&["--client", "a"]).is_err());
        assert!(parsed(&["--client", "a:"]).is_err());
    }

    #[test]
    fn expires_in_is_sent_as_given() {
        let expires_in = |text| parsed(&["--expires-in", text]).unwrap().into_options();
        let sent = |text| expires_in(text).behaviour.expires_in;
        assert_eq!(sent("-1"), ExpiresIn::Raw("-1".to_owned()));
        assert_eq!(sent("missing"), ExpiresIn::Missing);
        assert_eq!(sent("rounded-up"), ExpiresIn::RoundedUp);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("/tmp/ca-1.pem"), "/tmp/ca-1.pem");
        assert_eq!(quoted("it's $x"), r"'it'\''s $x'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn what_lies_under_the_ca_files_name_is_replaced_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        replace(&link, b"pem").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&link).unwrap(), "pem");
    }
}
