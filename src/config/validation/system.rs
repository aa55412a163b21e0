//! Keys for what only some systems have.

use crate::config::source::Report;
use crate::config::{Config, ListenAddress, SecretSource};
use crate::platform;
use crate::problems::configuration;

pub(super) fn validate(config: &Config, report: &mut Report) {
    if !platform::IS_UNIX {
        refuse_unix(config, report);
    }
}

/// Refuses what Windows does not have, with what to write there.
fn refuse_unix(config: &Config, report: &mut Report) {
    let listeners = config.listeners.iter().enumerate();
    let listeners = listeners.map(|(at, listener)| (format!("listener[{at}]"), &listener.address));
    for (table, address) in listeners.chain([("admin".to_owned(), &config.admin.address)]) {
        if matches!(address, ListenAddress::Unix(_) | ListenAddress::Systemd(_)) {
            let wrong = "is for Unix: Windows has neither systemd nor unix sockets that bondgate uses";
            let problem = configuration::value_wrong(wrong, "write \"localhost:PORT\" or \"ADDRESS:PORT\"");
            report.fault(&format!("{table}.address").as_str().into(), problem);
        }
    }
    for upstream in &config.upstreams {
        for (name, source) in [
            ("client_id", &upstream.client_id),
            ("client_secret", &upstream.client_secret),
        ] {
            if matches!(source, SecretSource::Credential(_)) {
                let wrong = "is a credential of systemd, which Windows does not have";
                let form = "write { file = 'C:\\ProgramData\\bondgate\\client_secret' }, with single quotes";
                let problem = configuration::value_wrong(wrong, form);
                report.fault(
                    &format!("upstream.{}.{name}", upstream.name).as_str().into(),
                    problem,
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_windows_does_not_have_is_refused_with_what_to_write() {
        let text = "[upstream.a]\npreset = \"smart-bonding-stage\"\nclient_id = \"id\"\n\
                    client_secret = { credential = \"secret\" }\n[[listener]]\naddress = \"unix:/run/a.sock\"\n\
                    [admin]\naddress = \"systemd:admin\"\n";
        // On Windows it is refused already.
        let config = Config::parse(text, "f", []);
        let config = config.unwrap_or_else(|error| *error.config.unwrap());
        let mut report = Report::new(text, "f");
        refuse_unix(&config, &mut report);
        let keys: Vec<_> = report.faults.iter().map(|fault| fault.key.to_string()).collect();
        assert_eq!(
            keys,
            ["listener[0].address", "admin.address", "upstream.a.client_secret"]
        );
    }
}
