//! Where secrets are kept, and which users of this machine have access to them.

use secrecy::ExposeSecret as _;

use crate::config::files::NamedFile;
use crate::config::outbound_proxy::OutboundProxy;
use crate::config::root::Config;
use crate::config::secret::SecretSource;
use crate::config::source::{KeyPath, Origin, Report};
use crate::platform::files::{Exposure, exposure};
use crate::platform::shell::close_file;
use crate::problems::{configuration, files};

pub(super) fn validate(config: &Config, report: &mut Report) {
    for file in config.files().into_iter().filter(NamedFile::is_secret) {
        let closing = close_file(&file.path);
        match exposure(&file.path) {
            Some(Exposure::Writable) => report.fault(&file.key, files::writable_by_others(closing)),
            Some(Exposure::Readable) => report.warn(&file.key, files::readable_by_others(closing)),
            None => {}
        }
    }
    for upstream in &config.upstreams {
        let table = KeyPath::upstream(&upstream.name);
        warn_of_place(&table.key("client_secret"), &upstream.client_secret, report);
        if let OutboundProxy::Url(source) = &upstream.proxy
            && !is_without_password(source)
        {
            warn_of_place(&table.key("proxy"), source, report);
        }
    }
}

fn is_without_password(proxy: &SecretSource) -> bool {
    matches!(proxy, SecretSource::Inline(url) if !url.expose_secret().contains('@'))
}

/// A secret belongs in a file: it can be replaced while bondgate runs, and is not read by accident.
fn warn_of_place(key: &KeyPath, source: &SecretSource, report: &mut Report) {
    let variable = match (source, report.document.origin(key)) {
        (SecretSource::File(_) | SecretSource::Credential(_), _) => return,
        (SecretSource::Environment(variable), _) => variable.clone(),
        (SecretSource::Inline(_), Origin::Environment(variable)) => variable,
        (SecretSource::Inline(_), _) => {
            return report.warn(key, configuration::secret_in_configuration(key.name()));
        }
    };
    let advice = match variable.as_str() {
        "BONDGATE_CLIENT_SECRET" => "BONDGATE_CLIENT_SECRET_FILE=/path".to_owned(),
        other => format!("{}__FILE=/path in place of {other}", key.variable()),
    };
    report.warn(key, configuration::secret_in_environment(variable, advice));
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError};

    #[test]
    fn a_secret_outside_of_a_file_causes_a_warning_that_shows_how_to_use_one() {
        let warned = |client_secret: &str, set: &[(&str, &str)]| {
            let text = format!(
                "[upstream.sb-stage]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n{client_secret}\n"
            );
            let set = set
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let config = Config::parse(&text, "f", set).unwrap();
            ConfigError::new(config.warnings).to_string()
        };
        let file = "client_secret = { file = \"/s\" }";
        for (client_secret, set, advice) in [
            (
                "client_secret = \"hunter2\"",
                &[][..],
                "client_secret = { file = \"/path\" }",
            ),
            (
                "",
                &[("BONDGATE_CLIENT_SECRET", "hunter2")],
                "in a file: BONDGATE_CLIENT_SECRET_FILE=/path",
            ),
            (
                "client_secret = { env = \"SECRET\" }",
                &[],
                "BONDGATE__UPSTREAM__SB_STAGE__CLIENT_SECRET__FILE=/path in place of SECRET",
            ),
            (
                file,
                &[("BONDGATE_PROXY", "http://user:hunter2@proxy:3128")],
                "BONDGATE__UPSTREAM__SB_STAGE__PROXY__FILE=/path in place of BONDGATE_PROXY",
            ),
        ] {
            let warnings = warned(client_secret, set);
            assert!(
                warnings.contains(advice) && !warnings.contains("hunter2"),
                "{advice}: {warnings}"
            );
        }
        for (client_secret, set) in [
            (file, &[][..]),
            (file, &[("BONDGATE_PROXY", "http://proxy:3128")]),
            ("", &[("BONDGATE_CLIENT_SECRET_FILE", "/s")]),
        ] {
            assert!(
                !warned(client_secret, set).contains("in a file"),
                "{client_secret} {set:?}"
            );
        }
    }
}
