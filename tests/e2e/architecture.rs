//! The source keeps to its own map: who may import whom, and how long a file may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What each module of the crate may use beside itself. `main` and `lib` tie them together.
const MAY_USE: &[(&str, &[&str])] = &[
    ("config", &[]),
    ("telemetry", &["config"]),
    ("tls", &["config"]),
    ("platform", &[]),
    ("process", &[]),
    ("resolver", &[]),
    ("spelling", &[]),
    ("sandbox", &["config"]),
    ("supervisor", &[]),
    ("fuzzing", &["config", "proxy", "server", "token"]),
    ("token", &["config", "resolver", "telemetry", "tls"]),
    ("server", &["config", "platform", "spelling", "telemetry", "tls"]),
    ("spool", &["config", "spelling", "telemetry"]),
    (
        "proxy",
        &[
            "config",
            "resolver",
            "telemetry",
            "tls",
            "token",
            "server",
            "spool",
        ],
    ),
    ("admin", &["config", "telemetry", "token", "server", "spool"]),
    ("simulator", &["config", "tls", "server"]),
    (
        "daemon",
        &[
            "admin",
            "config",
            "proxy",
            "resolver",
            "sandbox",
            "server",
            "spool",
            "supervisor",
            "telemetry",
            "tls",
            "token",
        ],
    ),
    (
        "cli",
        &[
            "config",
            "daemon",
            "process",
            "resolver",
            "sandbox",
            "simulator",
            "spool",
            "supervisor",
            "telemetry",
            "tls",
            "token",
        ],
    ),
];

const LONGEST_FILE: usize = 500;

#[test]
fn each_module_uses_only_what_the_map_allows() {
    let mut faults = Vec::new();
    for (path, text) in sources() {
        let module = module(&path);
        if module == "main" || module == "lib" {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            faults.push(format!("{module} is not on the map"));
            continue;
        };
        for used in used_modules(without_tests(&text)) {
            if used != module && !allowed.contains(&used.as_str()) {
                faults.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_source_file_is_too_long_to_hold_one_idea() {
    let lines = |text: &str| text.lines().count();
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(_, text)| lines(text) > LONGEST_FILE)
        .map(|(path, text)| format!("{}: {} lines", path.display(), lines(&text)))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_form_of_an_import_is_seen() {
    let text = "use crate::a::{self, B};\nuse crate::{\n    c::D,\n    e::{F, G},\n    h,\n};\n\
                fn i() -> crate::j::K {}\n#[cfg(test)]\nmod tests {\n    use crate::l;\n}\n";
    let used: Vec<_> = used_modules(without_tests(text)).into_iter().collect();
    assert_eq!(used, ["a", "c", "e", "h", "j"]);
}

/// Every source file, by its path below `src`, but for those that hold nothing but tests.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("tests") {
                    directories.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                sources.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(sources.len() > 30, "the sources are here");
    sources
}

/// The module of the crate's root that a file belongs to.
fn module(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// Tests stand last in a file, and may use what they like.
fn without_tests(text: &str) -> &str {
    let tests = text.find("#[cfg(test)]\nmod tests {");
    &text[..tests.unwrap_or(text.len())]
}

/// The modules named after each `crate::`, in a list of them too.
fn used_modules(text: &str) -> BTreeSet<String> {
    text.split("crate::").skip(1).flat_map(first_names).collect()
}

fn first_names(path: &str) -> Vec<String> {
    let name = |text: &str| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
        text[..end].to_owned()
    };
    let Some(list) = path.strip_prefix('{') else {
        return vec![name(path)];
    };
    let mut names = vec![name(list.trim_start())];
    let mut depth = 0;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(list[at + 1..].trim_start())),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}
