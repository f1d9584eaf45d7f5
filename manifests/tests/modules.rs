//! The order of the modules: each imports what it needs from the module that defines it, no two depend on each other, and
//! the documents of an image know neither what is found wrong with it nor how it is run.

#![expect(clippy::unwrap_used, reason = "a test's own set-up fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The modules by their paths from the root of the crate (`runtime::gpus`), and which others each of them uses. A module
/// that declares others uses them.
type ModuleGraph = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_two_modules_depend_on_each_other() {
    let graph = module_graph();
    // What the rest of the test stands on.
    assert!(graph[""].contains("runtime") && graph["runtime"].contains("runtime::spec"), "{graph:#?}");
    assert!(graph["runtime::spec"].contains("runtime::request"), "{graph:#?}");
    assert_eq!(circles(graph), ModuleGraph::new());
}

#[test]
fn circles_are_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph = ModuleGraph::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            graph.entry((*to).to_owned()).or_default();
        }
        graph
    };
    assert_eq!(circles(graph(&[("a", "b"), ("a", "c"), ("b", "c")])), ModuleGraph::new());
    let circle = [("b", "c"), ("c", "d"), ("d", "b")];
    assert_eq!(circles(graph(&[&circle[..], &[("a", "b"), ("d", "e")]].concat())), graph(&circle));
}

#[test]
fn documents_know_neither_lint_nor_runtime() {
    let is_in = |module: &str, room: &str| module == room || module.starts_with(&format!("{room}::"));
    for (module, used) in module_graph().into_iter().filter(|(module, _)| !module.is_empty()) {
        let (lint, runtime) = (is_in(&module, "lint"), is_in(&module, "runtime"));
        for other in used {
            assert!(lint || !is_in(&other, "lint"), "{module} uses {other}");
            assert!(lint || runtime || !is_in(&other, "runtime"), "{module} uses {other}");
        }
    }
}

/// What is left when all modules are gone that use no other, or that no other uses.
fn circles(mut graph: ModuleGraph) -> ModuleGraph {
    loop {
        let before = graph.len();
        let modules: BTreeSet<String> = graph.keys().cloned().collect();
        let used: BTreeSet<String> = graph.values().flatten().cloned().collect();
        graph.retain(|module, uses| {
            uses.retain(|other| modules.contains(other));
            used.contains(module) && !uses.is_empty()
        });
        if graph.len() == before {
            return graph;
        }
    }
}

fn module_graph() -> ModuleGraph {
    let mut code = BTreeMap::new();
    read_module(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"), "", &mut code);
    let uses = |(module, text): (&String, &String)| {
        let children = children(text).map(|child| join(module, child));
        let imported = paths(text).into_iter().map(|path| module_of(&path, module, &code));
        (module.clone(), children.chain(imported).filter(|other| other != module).collect())
    };
    code.iter().map(uses).collect()
}

/// Reads the module in `file` and those that it declares, without comments and without their tests, which come last.
fn read_module(file: &Path, module: &str, code: &mut BTreeMap<String, String>) {
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let text: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let text = text.join("\n");
    let is_root = file.ends_with("mod.rs") || file.ends_with("lib.rs");
    let directory = if is_root { file.with_file_name("") } else { file.with_extension("") };
    for child in children(&text) {
        let own_directory = directory.join(child).join("mod.rs");
        let file = if own_directory.exists() { own_directory } else { directory.join(format!("{child}.rs")) };
        read_module(&file, &join(module, child), code);
    }
    code.insert(module.to_owned(), text);
}

fn join(module: &str, child: &str) -> String {
    if module.is_empty() { child.to_owned() } else { format!("{module}::{child}") }
}

/// The modules that `code` declares.
fn children(code: &str) -> impl Iterator<Item = &str> {
    code.lines().filter_map(|line| line.strip_suffix(';')?.split_once("mod ").map(|(_, name)| name))
}

/// The paths in `code` that begin at the crate or at a module, those of a group one by one.
fn paths(code: &str) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), code);
    while let Some(start) = ["crate::", "self::", "super::"].iter().filter_map(|root| rest.find(root)).min() {
        let path = &rest[start..];
        let end = path.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(path.len());
        let (path, after) = path.split_at(end);
        let group = after.strip_prefix('{').and_then(|group| group.split('}').next()).unwrap_or_default();
        found.extend(group.split(',').map(|item| format!("{path}{}", item.trim())));
        rest = after;
    }
    found
}

/// The module that defines or re-exports what `path` names in `module`.
fn module_of(path: &str, module: &str, code: &BTreeMap<String, String>) -> String {
    let mut at = module.to_owned();
    for name in path.split("::") {
        match name {
            "crate" => at.clear(),
            "self" => {}
            "super" => at.truncate(at.rfind("::").unwrap_or_default()),
            child if code.contains_key(&join(&at, child)) => at = join(&at, child),
            _ => break,
        }
    }
    at
}
