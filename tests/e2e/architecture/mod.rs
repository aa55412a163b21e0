//! The source follows its own map: which module may import which, and no cycle between files.

mod sources;

use std::collections::BTreeMap;

use self::sources::Sources;

/// The modules that each module of the crate may import. `main` and `lib` tie them together.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("platform", &[]),
    ("problems", &["platform"]),
    ("config", &["platform", "problems"]),
    ("telemetry", &["config", "platform", "problems"]),
    ("tls", &["config", "platform", "problems"]),
    ("spelling", &[]),
    (
        "upstream",
        &["config", "platform", "problems", "telemetry", "tls"],
    ),
    ("token", &["config", "problems", "telemetry", "tls", "upstream"]),
    (
        "server",
        &["config", "platform", "problems", "spelling", "telemetry", "tls"],
    ),
    (
        "spool",
        &["config", "platform", "problems", "spelling", "telemetry"],
    ),
    (
        "proxy",
        &[
            "config",
            "problems",
            "server",
            "spelling",
            "spool",
            "telemetry",
            "token",
            "upstream",
        ],
    ),
    (
        "admin",
        &[
            "config",
            "problems",
            "server",
            "spool",
            "telemetry",
            "tls",
            "token",
            "upstream",
        ],
    ),
    ("simulator", &[]),
    (
        "daemon",
        &[
            "admin",
            "config",
            "platform",
            "problems",
            "proxy",
            "server",
            "spool",
            "telemetry",
            "tls",
            "token",
            "upstream",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "daemon",
            "platform",
            "problems",
            "simulator",
            "spool",
            "telemetry",
            "tls",
            "token",
            "upstream",
        ],
    ),
];

const LONGEST_FILE: usize = 500;

#[test]
fn each_module_imports_only_what_the_table_allows() {
    let used = module_imports(&Sources::of_the_crate());
    let mut faults = Vec::new();
    for (module, imports) in &used {
        match MAY_IMPORT.iter().find(|(name, _)| name == module) {
            None => faults.push(format!("{module} is not in the table")),
            Some((_, allowed)) => faults.extend(
                imports
                    .iter()
                    .filter(|(import, _)| !allowed.contains(&import.as_str()))
                    .map(|(import, file)| format!("{file} imports {import}")),
            ),
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_entry_of_the_table_is_used() {
    let used = module_imports(&Sources::of_the_crate());
    let mut unused = Vec::new();
    for (module, allowed) in MAY_IMPORT {
        match used.get(*module) {
            None => unused.push(format!("there is no module {module}")),
            Some(imports) => unused.extend(
                allowed
                    .iter()
                    .filter(|import| !imports.contains_key(**import))
                    .map(|import| format!("{module} never imports {import}")),
            ),
        }
    }
    assert!(unused.is_empty(), "{}", unused.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_cycle() {
    let cycles = Sources::of_the_crate().cycles();
    assert!(cycles.is_empty(), "{}", cycles.join("\n"));
}

#[test]
fn no_source_file_is_longer_than_one_subject() {
    let long: Vec<_> = Sources::of_the_crate()
        .0
        .values()
        .filter(|source| source.lines > LONGEST_FILE)
        .map(|source| format!("{}: {} lines", source.file, source.lines))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// Which modules of the crate's root each of them imports, with one file that does.
fn module_imports(sources: &Sources) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut used: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for source in sources.0.values() {
        let Some(module) = source.module.first() else {
            continue;
        };
        let imports = used.entry(module.clone()).or_default();
        for import in source.imports.iter().chain(
            &source
                .reexports
                .iter()
                .map(|(_, path)| path.clone())
                .collect::<Vec<_>>(),
        ) {
            let root = &import[0];
            if root != module && sources.0.contains_key(&vec![root.clone()]) {
                imports.entry(root.clone()).or_insert_with(|| source.file.clone());
            }
        }
    }
    used.remove("fuzzing");
    used
}
