//! `bondgate init`: asks for what a first configuration needs, writes it, and runs the check.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;
use secrecy::zeroize::Zeroizing;

use super::{Exit, output, print_faults, systemd_units};
use crate::config::{Config, ListenAddress};
use crate::platform::processes::is_administrator;
use crate::platform::shell::CURL;
use crate::platform::terminal::HiddenInput;
use crate::platform::{files, locations, service};

/// Write a first configuration and a secret file, and check them: asks for preset, client id and secret
#[derive(Args)]
#[command(
    after_help = "Nothing is overwritten. Without a terminal, give --preset, --client-id and --secret-file."
)]
pub(super) struct InitArgs {
    /// The configuration file to write; the secret's file is written beside it [default: /etc/bondgate/bondgate.toml as
    /// root, else bondgate.toml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,

    /// smart-bonding-stage, smart-bonding-prod, cisco-support or none
    #[arg(long)]
    preset: Option<String>,

    /// The OAuth 2.0 client id
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// Read the secret from this file, or from standard input (-)
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Where to listen for callers [default: localhost:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<ListenAddress>,

    /// The spool's directory [default: /var/lib/bondgate as root, else spool beside the configuration]
    #[arg(long, value_name = "DIRECTORY")]
    spool: Option<PathBuf>,

    /// The URL of the API, if the preset's does not fit
    #[arg(long)]
    url: Option<String>,

    /// The URL of the token endpoint, if the preset's does not fit
    #[arg(long, value_name = "URL")]
    token_url: Option<String>,

    /// Certificates (PEM) to trust in addition to the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

const PRESETS: [(&str, &str); 4] = [
    (
        "smart-bonding-stage",
        "Smart Bonding, stage environment: begin with this",
    ),
    ("smart-bonding-prod", "Smart Bonding, production"),
    ("cisco-support", "Cisco's Support APIs"),
    ("none", "another API with OAuth 2.0 client credentials"),
];

/// The name of the secret's file, and of the credential in config/systemd.
const SECRET: &str = "client_secret";

/// The answers, and where they are written.
struct Answers {
    preset: String,
    client_id: String,
    secret: Zeroizing<String>,
    url: Option<String>,
    token_url: Option<String>,
}

pub(super) fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    let is_root = is_administrator();
    let config_file = args.config.clone().unwrap_or_else(|| {
        if is_root {
            locations::configuration().join("bondgate.toml")
        } else {
            "bondgate.toml".into()
        }
    });
    let config_file = std::path::absolute(config_file)?;
    let directory = config_file.parent().context("--config names a directory")?;
    let secret_file = directory.join(SECRET);
    for file in [&config_file, &secret_file] {
        let file_name = file.display();
        ensure!(
            !file.exists() || sets_nothing(file),
            "{file_name} exists and is not overwritten; move it, or write elsewhere with --config"
        );
    }
    let Some(answers) = ask(args)? else {
        output::error(
            "there is no terminal to ask on; add --preset, --client-id and --secret-file (with the preset none also \
             --url and --token-url), see --help",
        );
        return Ok(Exit::Usage);
    };
    // The unit reads the secret as root and hands it to the service, with a directory for the spool.
    let is_service = is_root && args.config.is_none() && systemd_units::service().is_some();
    let text = configuration(args, &answers, &secret_file, is_root, is_service);
    if let Err(error) = Config::parse(&text, "the new configuration", []) {
        print_faults(&error.faults);
        return Ok(Exit::Configuration);
    }
    files::create_configuration_directory(directory)
        .with_context(|| format!("cannot prepare {}", directory.display()))?;
    write(files::create_private(&secret_file), &secret_file, &answers.secret)?;
    let created = if sets_nothing(&config_file) {
        files::overwrite(&config_file)
    } else {
        File::create_new(&config_file)
    };
    write(created, &config_file, &text)?;
    output::line("\nThe check:")?;
    let exit = check(&config_file, directory)?;
    output::line(next_steps(args, &answers, &config_file, is_service, exit == 0))?;
    Ok(Exit::from_code(exit))
}

/// Whether a configuration has only comments, as the one that a package installs.
fn sets_nothing(file: &Path) -> bool {
    let text = std::fs::read_to_string(file);
    text.is_ok_and(|text| !text.is_empty() && text.parse::<toml::Table>().is_ok_and(|table| table.is_empty()))
}

fn write(created: io::Result<File>, path: &Path, text: &str) -> anyhow::Result<()> {
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(output::line(format_args!("wrote {}", path.display()))?)
}

/// Asks for what the options leave out; `None` without a terminal.
fn ask(args: &InitArgs) -> anyhow::Result<Option<Answers>> {
    let is_asked = args.preset.is_none() || args.client_id.is_none() || args.secret_file.is_none();
    if is_asked && !io::stdin().is_terminal() {
        return Ok(None);
    }
    let preset = match &args.preset {
        Some(preset) => preset.clone(),
        None => ask_preset()?,
    };
    let ask_url = |given: &Option<String>, question: &str| match given {
        None if preset == "none" && io::stdin().is_terminal() => ask_line(question).map(Some),
        given => Ok(given.clone()),
    };
    let url = ask_url(&args.url, "URL of the API")?;
    let token_url = ask_url(&args.token_url, "URL of the token endpoint")?;
    let client_id = match &args.client_id {
        Some(client_id) => client_id.clone(),
        None => ask_line("Client id")?,
    };
    let secret = match &args.secret_file {
        Some(file) => {
            let text = if file == Path::new("-") {
                io::read_to_string(io::stdin())
            } else {
                std::fs::read_to_string(file)
            };
            text.map(Zeroizing::new)
                .with_context(|| format!("cannot read {}", file.display()))?
        }
        None => ask_secret()?,
    };
    Ok(Some(Answers {
        preset,
        client_id,
        secret: bare(&secret)?,
        url,
        token_url,
    }))
}

fn ask_preset() -> io::Result<String> {
    output::line("Which API?")?;
    for (number, (name, description)) in (1..).zip(PRESETS) {
        output::line(format_args!("  {number}  {name:20} {description}"))?;
    }
    loop {
        let answer = ask_line("Number or name")?;
        let number = answer.parse::<usize>().ok();
        let chosen = number.and_then(|number| PRESETS.get(number.checked_sub(1)?));
        let chosen = chosen.or_else(|| PRESETS.iter().find(|(name, _)| *name == answer));
        if let Some((name, _)) = chosen {
            return Ok((*name).to_owned());
        }
        output::line(format_args!(
            "  {answer:?} is none of these: type a number from 1 to {}, or the name",
            PRESETS.len()
        ))?;
    }
}

/// Asks until there is an answer.
fn ask_line(question: &str) -> io::Result<String> {
    loop {
        print!("{question}: ");
        io::stdout().flush()?;
        let mut line = String::new();
        if io::stdin().read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim();
        if !line.is_empty() {
            return Ok(line.to_owned());
        }
        output::line("  An answer is needed; Ctrl-C ends without writing anything.")?;
    }
}

/// Asks for the secret, which the terminal does not show.
fn ask_secret() -> io::Result<Zeroizing<String>> {
    let hidden = HiddenInput::new()?;
    let answer = ask_line("Client secret (it is not shown)");
    drop(hidden);
    output::line("")?;
    answer.map(Zeroizing::new)
}

/// The secret without what copying adds: a byte order mark, blanks and line breaks at its ends, and quotes around it.
fn bare(secret: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut bare = secret.trim_start_matches('\u{feff}').trim();
    for quote in ['"', '\''] {
        let unquoted = bare.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        bare = unquoted.unwrap_or(bare);
    }
    ensure!(!bare.is_empty(), "the secret is empty");
    ensure!(
        !bare.chars().any(char::is_control),
        "the secret has several lines or control characters; it is one line"
    );
    Ok(Zeroizing::new(bare.to_owned()))
}

/// The text of the configuration, with the keys that are needed alone.
fn configuration(
    args: &InitArgs,
    answers: &Answers,
    secret_file: &Path,
    is_root: bool,
    is_service: bool,
) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let path = |path: &Path| {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        quoted(&absolute.display().to_string())
    };
    let secret = if is_service {
        format!("{{ credential = \"{SECRET}\" }}")
    } else {
        format!("{{ file = {} }}", path(secret_file))
    };
    let default = || {
        if is_root {
            locations::spool()
        } else {
            secret_file.with_file_name("spool")
        }
    };
    let spool = args.spool.clone().unwrap_or_else(default);
    let address = args.listen.as_ref().map(ToString::to_string);
    let of_socket = || (is_service && systemd_units::has_socket("http")).then(|| "systemd:http".to_owned());
    let address = address.or_else(of_socket);
    let lines = [
        Some("# Written by `bondgate init`; config/example.toml shows every key.\n".to_owned()),
        Some("[upstream.cisco]".to_owned()),
        Some(format!("preset = {}", quoted(&answers.preset))),
        Some(format!("client_id = {}", quoted(&answers.client_id))),
        Some(format!("client_secret = {secret}")),
        answers.url.as_deref().map(|url| format!("url = {}", quoted(url))),
        answers
            .token_url
            .as_deref()
            .map(|url| format!("token_url = {}", quoted(url))),
        args.ca_file
            .as_deref()
            .map(|file| format!("ca_file = {}", path(file))),
        (answers.preset == "none").then(|| "rules = \"any\"".to_owned()),
        (!is_service || args.spool.is_some()).then(|| format!("\n[spool]\ndirectory = {}", path(&spool))),
        address.map(|address| format!("\n[[listener]]\naddress = {}", quoted(&address))),
    ];
    let lines: Vec<_> = lines.into_iter().flatten().collect();
    lines.join("\n") + "\n"
}

/// Runs `bondgate check --live` on the new file, and returns its exit code. systemd's credential is found beside it.
fn check(config_file: &Path, directory: &Path) -> anyhow::Result<u8> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["check", "--live", "--config"]).arg(config_file);
    command.env("CREDENTIALS_DIRECTORY", directory);
    let status = command.status().context("cannot run the check")?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

fn next_steps(
    args: &InitArgs,
    answers: &Answers,
    config_file: &Path,
    is_service: bool,
    is_well: bool,
) -> String {
    let file = config_file.display();
    // A service gets its credentials from systemd; in a shell, a variable says where they are.
    let environment = match config_file.parent() {
        Some(directory) if is_service => format!("CREDENTIALS_DIRECTORY={} ", directory.display()),
        _ => String::new(),
    };
    if !is_well {
        return format!(
            "\nCorrect what the check reports, and check again:\n  {environment}bondgate check --live --config {file}"
        );
    }
    let mut text = if is_service {
        "\nRun it:\n  systemctl enable --now bondgate.socket bondgate.service".to_owned()
    } else if service::IS_SUPPORTED && args.config.is_none() && is_administrator() {
        "\nRun it:\n  bondgate service install\n  bondgate service start".to_owned()
    } else {
        format!("\nRun it:\n  bondgate run --config {file}")
    };
    let listen = args.listen.clone().unwrap_or(ListenAddress::Localhost(8080));
    if answers.preset.starts_with("smart-bonding") {
        text = format!(
            "{text}\n\nPull the first ticket, which takes it off Cisco's queue:\n  \
             {CURL} -i http://{listen}/sb-partner-oauth-proxy-api/rest/v1/pull/call"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_loses_what_copying_adds_and_nothing_else() {
        for (copied, secret) in [
            ("abc\r\n", "abc"),
            ("\u{feff}abc\n\n", "abc"),
            (" \"abc\" ", "abc"),
            ("'a b'", "a b"),
            ("a\"b", "a\"b"),
            ("\"abc", "\"abc"),
        ] {
            assert_eq!(*bare(copied).unwrap(), secret, "{copied:?}");
        }
        assert!(bare("\"\"").is_err() && bare("a\nb").is_err());
    }

    #[test]
    fn each_preset_makes_a_valid_configuration() {
        for (preset, _) in PRESETS {
            let url = |path| (preset == "none").then(|| format!("https://api.example{path}"));
            let answers = Answers {
                preset: preset.to_owned(),
                client_id: "an \"id\"".to_owned(),
                secret: Zeroizing::new("secret".to_owned()),
                url: url(""),
                token_url: url("/token"),
            };
            let args = InitArgs {
                config: None,
                preset: None,
                client_id: None,
                secret_file: None,
                listen: Some(ListenAddress::Localhost(0)),
                spool: None,
                url: None,
                token_url: None,
                ca_file: None,
            };
            let text = configuration(&args, &answers, Path::new("/a b/it's"), false, false);
            let config = Config::parse(&text, "f", []);
            let config = config.unwrap_or_else(|error| panic!("{text}\n{error}"));
            let spool = std::path::absolute("/a b/spool").unwrap();
            assert_eq!(config.spool.directory, Some(spool));
        }
    }
}
