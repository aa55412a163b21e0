//! The source files, and what each imports from the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// The path of a module or of an item, from the crate's root.
pub(super) type ModulePath = Vec<String>;

/// Every source file by its module's path, but for those with tests alone.
pub(super) struct Sources(pub(super) BTreeMap<ModulePath, Source>);

pub(super) struct Source {
    pub(super) file: String,
    pub(super) module: ModulePath,
    pub(super) lines: usize,
    /// Paths within the crate that its code names.
    pub(super) imports: BTreeSet<ModulePath>,
    /// Names that it passes on, with their paths.
    pub(super) reexports: Vec<(String, ModulePath)>,
}

impl Sources {
    pub(super) fn of_the_crate() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut texts = Vec::new();
        let mut directories = vec![root.clone()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let file = path.strip_prefix(&root).unwrap().display().to_string();
                    texts.push((file, std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
        let texts: Vec<_> = texts.iter().map(|(file, text)| (&**file, &**text)).collect();
        let sources = Self::parse(&texts);
        assert!(sources.0.len() > 60, "the sources are here");
        sources
    }

    fn parse(texts: &[(&str, &str)]) -> Self {
        let is_test = |file: &str| {
            file == "main.rs"
                || ["tests.rs", "fuzzed.rs", "fuzzing.rs"]
                    .iter()
                    .any(|name| file.ends_with(name))
                || file.contains("tests/")
        };
        let texts = texts.iter().filter(|(file, _)| !is_test(file));
        let sources = texts.map(|(file, text)| {
            let mut module: ModulePath = PathBuf::from(file)
                .with_extension("")
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
                module.pop();
            }
            let mut source = Source {
                file: (*file).to_owned(),
                module,
                lines: text.lines().count(),
                imports: BTreeSet::new(),
                reexports: Vec::new(),
            };
            source.visit_file(&syn::parse_file(text).unwrap());
            (source.module.clone(), source)
        });
        Self(sources.collect())
    }

    /// The modules that a file imports from, through re-exports to where the items are.
    fn edges(&self, source: &Source) -> BTreeSet<ModulePath> {
        let mut edges: BTreeSet<_> = source
            .imports
            .iter()
            .filter_map(|path| self.find(path, 0))
            .collect();
        edges.remove(&source.module);
        edges.remove(&Vec::new());
        edges
    }

    /// The module that has the item of a path.
    fn find(&self, path: &[String], depth: usize) -> Option<ModulePath> {
        let length = (0..=path.len())
            .rev()
            .find(|length| self.0.contains_key(&path[..*length]))?;
        let module = &self.0[&path[..length]];
        let reexport = path
            .get(length)
            .and_then(|name| module.reexports.iter().find(|(reexported, _)| reexported == name));
        match reexport {
            Some((_, path)) if depth < 5 => self.find(path, depth + 1),
            _ => Some(module.module.clone()),
        }
    }

    /// The shortest cycle through each pair of files that import each other, as file names.
    pub(super) fn cycles(&self) -> Vec<String> {
        let graph: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|(module, source)| (module.clone(), self.edges(source)))
            .collect();
        let mut cycles = BTreeSet::new();
        for (start, edges) in &graph {
            for next in edges {
                let Some(mut path) = shortest_path(&graph, next, start) else {
                    continue;
                };
                path.pop();
                path.insert(0, start.clone());
                // The same cycle is found from each of its files.
                let first = (0..path.len()).min_by_key(|at| &path[*at]).unwrap();
                path.rotate_left(first);
                path.push(path[0].clone());
                let files: Vec<_> = path.iter().map(|module| &*self.0[module].file).collect();
                cycles.insert(files.join(" -> "));
            }
        }
        cycles.into_iter().collect()
    }
}

fn shortest_path(
    graph: &BTreeMap<ModulePath, BTreeSet<ModulePath>>,
    from: &ModulePath,
    to: &ModulePath,
) -> Option<Vec<ModulePath>> {
    let mut paths = std::collections::VecDeque::from([vec![from.clone()]]);
    let mut seen = BTreeSet::from([from.clone()]);
    while let Some(path) = paths.pop_front() {
        let last = path.last()?;
        if last == to {
            return Some(path);
        }
        for next in &graph[last] {
            if seen.insert(next.clone()) {
                paths.push_back([&path[..], std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

impl Source {
    /// A path from the crate's root, for one that begins with `crate`, `self` or `super`.
    fn absolute(&self, path: &[String]) -> Option<ModulePath> {
        let mut absolute = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        for (at, part) in path.iter().enumerate() {
            match part.as_str() {
                "crate" | "self" if at == 0 => {}
                "super" => {
                    absolute.pop();
                }
                "self" => {}
                part => absolute.push(part.to_owned()),
            }
        }
        (!absolute.is_empty()).then_some(absolute)
    }

    fn flatten(tree: &syn::UseTree, before: &[String], paths: &mut Vec<(String, Vec<String>)>) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => Self::flatten(&path.tree, &with(&path.ident), paths),
            syn::UseTree::Name(name) => paths.push((name.ident.to_string(), with(&name.ident))),
            syn::UseTree::Rename(rename) => paths.push((rename.rename.to_string(), with(&rename.ident))),
            syn::UseTree::Glob(_) => paths.push(("*".to_owned(), before.to_vec())),
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    Self::flatten(tree, before, paths);
                }
            }
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list)
                if ["test", "fuzzing"].iter().any(|word| list.tokens.to_string().contains(word)))
    })
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => &Vec::new(),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut paths = Vec::new();
        Self::flatten(&item.tree, &[], &mut paths);
        for (name, path) in paths {
            let Some(path) = self.absolute(&path) else {
                continue;
            };
            if matches!(item.vis, syn::Visibility::Inherited) {
                self.imports.insert(path);
            } else {
                self.reexports.push((name, path));
            }
        }
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if let Some(path) = self.absolute(&parts) {
            self.imports.insert(path);
        }
        visit::visit_path(self, path);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }
}

#[test]
fn every_form_of_an_import_is_seen_and_tests_are_not() {
    let sources = Sources::parse(&[
        ("lib.rs", "mod a; mod b; mod c;"),
        (
            "a.rs",
            "use crate::b::{self, inner::{X, Y as Z}}; fn f() -> crate::c::C { todo!() }",
        ),
        (
            "b/mod.rs",
            "mod inner; mod other; pub use self::inner::X; use self::other::O; pub struct Own;",
        ),
        (
            "b/inner.rs",
            "fn f(_: super::other::O) {} #[cfg(test)] mod tests { use crate::a::A; }",
        ),
        (
            "b/other.rs",
            "use super::X; use crate::c; #[cfg(any(test, fuzzing))] fn f(_: crate::a::A) {}",
        ),
        ("c.rs", "use crate::b::X; use std::io;"),
    ]);
    let edges = |file: &str| -> Vec<String> {
        let source = sources.0.values().find(|source| source.file == file).unwrap();
        let edges = sources.edges(source).into_iter();
        edges.map(|module| sources.0[&module].file.clone()).collect()
    };
    assert_eq!(edges("a.rs"), ["b/mod.rs", "b/inner.rs", "c.rs"]);
    assert_eq!(edges("b/mod.rs"), ["b/other.rs"], "a re-export is no import");
    assert_eq!(edges("b/inner.rs"), ["b/other.rs"]);
    assert_eq!(edges("c.rs"), ["b/inner.rs"], "a re-export leads to its file");
    assert_eq!(
        sources.cycles(),
        [
            "b/inner.rs -> b/other.rs -> b/inner.rs",
            "b/inner.rs -> b/other.rs -> c.rs -> b/inner.rs"
        ]
    );
}
