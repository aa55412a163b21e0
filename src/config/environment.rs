//! Lays `BONDGATE_…` variables over the configuration file: the environment beats the file and is
//! enough alone.

use super::section::Fault;
use super::tree::{Entry, Node, Origin, Table};

/// Short names for the keys that a container usually sets: of the one upstream, of the one listener,
/// or anywhere.
const SHORT: &[(&str, Target)] = &[
    ("BONDGATE_PRESET", Target::Upstream("preset")),
    ("BONDGATE_CLIENT_ID", Target::Upstream("client_id")),
    ("BONDGATE_CLIENT_SECRET", Target::Upstream("client_secret")),
    ("BONDGATE_CLIENT_SECRET_FILE", Target::Upstream("client_secret")),
    ("BONDGATE_PROXY", Target::Upstream("proxy")),
    ("BONDGATE_CA_FILE", Target::Upstream("ca_file")),
    ("BONDGATE_LISTEN", Target::Listener("address")),
    ("BONDGATE_ALLOW", Target::Listener("allow")),
    ("BONDGATE_HOSTS", Target::Listener("hosts")),
    ("BONDGATE_ADMIN", Target::Key(&["admin", "address"])),
    ("BONDGATE_SPOOL_DIRECTORY", Target::Key(&["spool", "directory"])),
    ("BONDGATE_LOG", Target::Key(&["log", "level"])),
];

/// The name of the upstream that the short names make where the file has none.
const UPSTREAM: &str = "cisco";

#[derive(Clone, Copy)]
enum Target {
    Upstream(&'static str),
    Listener(&'static str),
    Key(&'static [&'static str]),
}

/// What came of the overlay beside the values.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) faults: Vec<Fault>,
    pub(super) warnings: Vec<String>,
}

/// Sets what the variables say into `root`.
pub(super) fn overlay(root: &mut Table, variables: impl IntoIterator<Item = (String, String)>) -> Overlay {
    let mut found = Overlay::default();
    let variables: Vec<_> = variables.into_iter().collect();
    let state = variables
        .iter()
        .find(|(name, _)| name == STATE_DIRECTORY)
        .cloned();
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.starts_with("BONDGATE_"))
        .collect();
    variables.sort();
    let named = |name: &str| variables.iter().any(|(other, _)| other == name);
    if named("BONDGATE_CLIENT_SECRET") && named("BONDGATE_CLIENT_SECRET_FILE") {
        found.fault(
            "BONDGATE_CLIENT_SECRET",
            "stands beside BONDGATE_CLIENT_SECRET_FILE; set one of them",
        );
    }
    for (name, value) in variables {
        let short = SHORT.iter().find(|(short, _)| *short == name);
        let result = if let Some((_, target)) = short {
            set_short(root, *target, &name, value)
        } else if let Some(path) = name.strip_prefix("BONDGATE__") {
            let path: Vec<_> = path.split("__").map(str::to_ascii_lowercase).collect();
            set(root, &path, entry(&name, value))
        } else {
            if !is_foreign(&name) {
                found.warnings.push(format!(
                    "the environment variable {name} is not one of bondgate's; any key can be set with BONDGATE__SECTION__KEY"
                ));
            }
            Ok(())
        };
        if let Err(what) = result {
            found.fault(&name, &what);
        }
    }
    if let Some((name, value)) = state {
        set_state_directory(root, &name, &value);
    }
    found
}

/// What systemd makes for `StateDirectory=`: the spool's place, where nothing says another.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

fn set_state_directory(root: &mut Table, name: &str, value: &str) {
    let is_set = match root.get("spool").map(|entry| &entry.node) {
        None => false,
        Some(Node::Table(spool)) => spool.contains_key("directory"),
        Some(_) => true,
    };
    // systemd separates several by colons.
    if let Some(first) = value
        .split(':')
        .next()
        .filter(|first| !first.is_empty() && !is_set)
    {
        let _ = set(
            root,
            &["spool".to_owned(), "directory".to_owned()],
            entry(name, first.to_owned()),
        );
    }
}

/// The variable that would send calls through a proxy if it were heeded.
pub(super) fn outbound_proxy(variables: &[(String, String)]) -> Option<String> {
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .find(|name| {
            variables
                .iter()
                .any(|(other, value)| other == *name && !value.is_empty())
        })
        .map(|name| (*name).to_owned())
}

impl Overlay {
    fn fault(&mut self, name: &str, what: &str) {
        let origin = Origin::Environment(name.to_owned());
        self.faults.push(Fault {
            origin,
            key: String::new(),
            what: what.to_owned(),
        });
    }
}

/// Names that are not settings: where the file is, and what Kubernetes puts beside every pod for a
/// Service called "bondgate" (`BONDGATE_PORT=tcp://…`).
fn is_foreign(name: &str) -> bool {
    name == "BONDGATE_CONFIG"
        || name == "BONDGATE_PORT"
        || name.starts_with("BONDGATE_PORT_")
        || name.starts_with("BONDGATE_SERVICE_")
}

fn set_short(root: &mut Table, target: Target, name: &str, value: String) -> Result<(), String> {
    let value = match name {
        // The variable is the secret's place, so that the secret itself is never a value here.
        "BONDGATE_CLIENT_SECRET" => source(name, "env", name.to_owned()),
        "BONDGATE_CLIENT_SECRET_FILE" => source(name, "file", value),
        _ => entry(name, value),
    };
    let path: Vec<String> = match target {
        Target::Key(path) => path.iter().map(|&part| part.to_owned()).collect(),
        Target::Upstream(key) => {
            let upstream = match root.get("upstream").map(|entry| &entry.node) {
                Some(Node::Table(table)) if table.len() > 1 => {
                    return Err(format!(
                        "sets the one upstream, but there are several; write BONDGATE__UPSTREAM__NAME__{}",
                        key.to_uppercase()
                    ));
                }
                Some(Node::Table(table)) => table.keys().next().cloned(),
                _ => None,
            };
            [
                "upstream".to_owned(),
                upstream.unwrap_or_else(|| UPSTREAM.to_owned()),
                key.to_owned(),
            ]
            .into()
        }
        Target::Listener(key) => {
            if let Some(Node::List(list)) = root.get("listener").map(|entry| &entry.node)
                && list.len() > 1
            {
                return Err(format!(
                    "sets the one listener, but there are several; write BONDGATE__LISTENER__0__{}",
                    key.to_uppercase()
                ));
            }
            ["listener".to_owned(), "0".to_owned(), key.to_owned()].into()
        }
    };
    set(root, &path, value)
}

/// Puts a value at a path, making the tables and lists on the way.
fn set(table: &mut Table, path: &[String], value: Entry) -> Result<(), String> {
    let [first, rest @ ..] = path else {
        return Err("names no key".to_owned());
    };
    if first.is_empty() {
        return Err("has an empty part; write BONDGATE__SECTION__KEY".to_owned());
    }
    // An upstream may be called "sb-stage": no shell takes a dash in a name.
    let spelled = table
        .keys()
        .find(|key| key.to_ascii_lowercase().replace('-', "_") == *first);
    let key = spelled.unwrap_or(first).clone();
    if rest.is_empty() {
        table.insert(key, value);
        return Ok(());
    }
    let numbered = rest.first().is_some_and(|part| part.parse::<usize>().is_ok());
    let empty = if numbered {
        Node::List(Vec::new())
    } else {
        Node::Table(Table::new())
    };
    let next = table.entry(key).or_insert_with(|| Entry {
        origin: value.origin.clone(),
        node: empty,
    });
    match &mut next.node {
        Node::Table(table) => set(table, rest, value),
        Node::List(list) => set_item(list, rest, value),
        // `client_secret = "…"` in the file, `…__CLIENT_SECRET__FILE` in the environment.
        Node::Value(_) => {
            let mut table = Table::new();
            set(&mut table, rest, value)?;
            next.node = Node::Table(table);
            Ok(())
        }
    }
}

fn set_item(list: &mut Vec<Entry>, path: &[String], value: Entry) -> Result<(), String> {
    let [first, rest @ ..] = path else {
        return Err("names no key".to_owned());
    };
    let at: usize = first
        .parse()
        .map_err(|_| format!("needs a number where it says {:?}", first.to_uppercase()))?;
    if at > list.len() {
        return Err(format!(
            "leaves a gap: the list has {} items, numbers start at 0",
            list.len()
        ));
    }
    if at == list.len() {
        list.push(Entry {
            origin: value.origin.clone(),
            node: Node::Table(Table::new()),
        });
    }
    if rest.is_empty() {
        list[at] = value;
        return Ok(());
    }
    match &mut list[at].node {
        Node::Table(table) => set(table, rest, value),
        _ => Err("names a key of something that is no table".to_owned()),
    }
}

fn entry(name: &str, value: String) -> Entry {
    Entry {
        origin: Origin::Environment(name.to_owned()),
        node: Node::Value(toml::Value::String(value)),
    }
}

fn source(name: &str, place: &str, value: String) -> Entry {
    let mut table = Table::new();
    table.insert(place.to_owned(), entry(name, value));
    Entry {
        origin: Origin::Environment(name.to_owned()),
        node: Node::Table(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lay(root: &mut Table, variables: &[(&str, &str)]) -> Overlay {
        overlay(
            root,
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn the_short_names_make_one_upstream_and_one_listener() {
        let mut root = Table::new();
        let found = lay(
            &mut root,
            &[
                ("BONDGATE_PRESET", "smart-bonding-stage"),
                ("BONDGATE_CLIENT_SECRET_FILE", "/run/secret"),
                ("BONDGATE_LISTEN", "localhost:1"),
            ],
        );
        assert!(found.faults.is_empty() && found.warnings.is_empty());
        let value = Entry {
            origin: Origin::Default,
            node: Node::Table(root),
        }
        .value();
        assert_eq!(
            value["upstream"]["cisco"]["client_secret"]["file"].as_str(),
            Some("/run/secret")
        );
        assert_eq!(value["listener"][0]["address"].as_str(), Some("localhost:1"));
    }

    #[test]
    fn what_kubernetes_injects_for_a_service_is_ignored_and_a_stranger_is_warned_about() {
        let mut root = Table::new();
        let found = lay(
            &mut root,
            &[
                ("BONDGATE_PORT", "tcp://10.0.0.1:80"),
                ("BONDGATE_PORT_80_TCP", "tcp://10.0.0.1:80"),
                ("BONDGATE_SERVICE_HOST", "10.0.0.1"),
                ("BONDGATE_CLIENTID", "x"),
                ("PATH", "/bin"),
            ],
        );
        assert!(root.is_empty() && found.faults.is_empty());
        assert_eq!(found.warnings.len(), 1);
        assert!(found.warnings[0].contains("BONDGATE_CLIENTID"));
    }

    #[test]
    fn a_short_name_is_refused_where_several_upstreams_could_be_meant() {
        let (mut root, _) = super::super::tree::parse("[upstream.a]\n[upstream.b]\n", &|_| Origin::Default);
        let found = lay(
            &mut root,
            &[
                ("BONDGATE_CLIENT_ID", "x"),
                ("BONDGATE__UPSTREAM__B__CLIENT_ID", "y"),
            ],
        );
        assert_eq!(found.faults.len(), 1);
        assert!(
            found.faults[0]
                .to_string()
                .contains("BONDGATE__UPSTREAM__NAME__CLIENT_ID")
        );
    }

    #[test]
    fn a_dash_in_a_name_is_an_underscore_in_a_variable() {
        let (mut root, _) = super::super::tree::parse("[upstream.sb-stage]\n", &|_| Origin::Default);
        lay(&mut root, &[("BONDGATE__UPSTREAM__SB_STAGE__CLIENT_ID", "x")]);
        let value = Entry {
            origin: Origin::Default,
            node: Node::Table(root),
        }
        .value();
        assert_eq!(value["upstream"]["sb-stage"]["client_id"].as_str(), Some("x"));
    }

    #[test]
    fn odd_names_are_faults_and_not_panics() {
        for name in [
            "BONDGATE__",
            "BONDGATE____",
            "BONDGATE__A__",
            "BONDGATE__LISTENER__7__HOSTS",
            "BONDGATE__LISTENER__0",
        ] {
            let mut root = Table::new();
            let _ = lay(&mut root, &[(name, "x")]);
        }
    }
}
