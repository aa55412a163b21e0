//! The two environments of Smart Bonding, whose hosts and credentials do not mix.

use crate::config::source::{KeyPath, Report};
use crate::config::upstream::Upstream;
use crate::problems::token::wrong_environment;

/// Reports hosts of one environment beside hosts, or the preset, of the other.
pub(super) fn validate(upstream: &Upstream, report: &mut Report) {
    let preset = of_preset(&upstream.preset);
    let hosts = upstream
        .endpoints()
        .map(|(key, endpoint)| (key, endpoint.host(), of_host(endpoint.host())));
    let [(_, _, of_url), (_, _, of_token_url)] = hosts;
    let is_mixed = of_url.is_some() && of_token_url.is_some() && of_url != of_token_url;
    let own = preset.or(of_url);
    let others = hosts.into_iter().rev();
    let other = others
        .filter_map(|(key, host, environment)| Some((key, host, environment?)))
        .find(|(_, _, environment)| own.is_some_and(|own| own != *environment));
    if let Some((key, host, environment)) = other {
        let what = match preset {
            Some(_) => format!("the preset is {}", upstream.preset),
            None => format!("url is that of {}", own.unwrap_or_default()),
        };
        let (key, problem) = (
            KeyPath::upstream(&upstream.name).key(key),
            wrong_environment(what, host, environment),
        );
        if is_mixed {
            report.fault(&key, problem);
        } else {
            report.warn(&key, problem);
        }
    }
}

/// The environment that a preset is for.
pub(crate) fn of_preset(preset: &str) -> Option<&'static str> {
    match preset {
        "smart-bonding-stage" => Some("stage"),
        "smart-bonding-prod" => Some("production"),
        _ => None,
    }
}

/// The environment that a host of Cisco's belongs to.
pub(crate) fn of_host(host: &str) -> Option<&'static str> {
    match host.trim_end_matches('.') {
        "stage.sbnprd.xylem.cisco.com" | "int-id.cisco.com" => Some("stage"),
        "sb.xylem.cisco.com" | "id.cisco.com" => Some("production"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn stage_and_production_do_not_mix() {
        const STAGE: &str = "url = \"https://stage.sbnprd.xylem.cisco.com\"\n";
        const STAGE_TOKEN: &str = "token_url = \"https://int-id.cisco.com/t\"\n";
        const PROD: &str = "url = \"https://sb.xylem.cisco.com\"\n";
        const PROD_TOKEN: &str = "token_url = \"https://id.cisco.com/t\"\n";
        for (preset, keys, fault, warning) in [
            ("smart-bonding-stage", &[STAGE, STAGE_TOKEN][..], None, None),
            ("smart-bonding-stage", &[PROD], Some("url"), None),
            ("smart-bonding-stage", &[PROD_TOKEN], Some("token_url"), None),
            ("smart-bonding-prod", &[STAGE_TOKEN], Some("token_url"), None),
            (
                "smart-bonding-prod",
                &[STAGE, STAGE_TOKEN],
                None,
                Some("token_url"),
            ),
            (
                "none",
                &[STAGE, PROD_TOKEN, "rules = \"any\""],
                Some("token_url"),
                None,
            ),
            ("none", &[PROD, PROD_TOKEN, "rules = \"any\""], None, None),
            ("cisco-support", &[], None, None),
        ] {
            let text = format!(
                "[upstream.a]\npreset = \"{preset}\"\nclient_id = \"x\"\nclient_secret = {{ file = \"/s\" }}\n{}",
                keys.concat()
            );
            let (faults, warnings) = match Config::parse(&text, "f", []) {
                Ok(config) => (Vec::new(), config.warnings),
                Err(error) => (error.faults, Vec::new()),
            };
            for (found, key) in [(faults, fault), (warnings, warning)] {
                let found: Vec<_> = found
                    .iter()
                    .filter(|found| found.problem.code() == "wrong-environment")
                    .map(|found| found.key.name())
                    .collect();
                assert_eq!(found, Vec::from_iter(key), "{preset} {keys:?}");
            }
        }
    }
}
