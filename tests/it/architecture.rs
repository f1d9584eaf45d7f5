//! The shape of the workspace: `src → sandbox → layers → manifests`, nothing back, and no async below `src`.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

#[test]
fn crates_depend_downwards_only() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo).args(["metadata", "--format-version", "1", "--no-deps", "--offline"]).output();
    let metadata: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let dependencies = |name: &str| -> Vec<String> {
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == name).unwrap();
        let normal = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"].is_null());
        normal.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
    };
    // From the top down.
    const CRATES: [&str; 4] = ["ociforge", "ociforge-sandbox", "ociforge-layers", "ociforge-manifests"];
    for (height, name) in CRATES.iter().enumerate() {
        let known = dependencies(name);
        let (above, below) = (&CRATES[..height], &CRATES[height + 1..]);
        assert!(above.iter().all(|crate_above| !known.contains(&(*crate_above).to_owned())), "{name}: {known:?}");
        assert!(below.iter().all(|crate_below| known.contains(&(*crate_below).to_owned())), "{name}: {known:?}");
        for of_top in ["tokio", "reqwest", "axum", "hyper"] {
            assert!(height == 0 || !known.contains(&of_top.to_owned()), "{name} depends on {of_top}");
        }
    }
}

/// The rooms of `src`, from the top down. Each may use those after it.
const ROOMS: [&str; 25] = [
    "process",
    "commands",
    "cli",
    "build",
    "doctor",
    "lock",
    "python",
    "base",
    "plan",
    "layer",
    "tables",
    "run",
    "rootfs",
    "serve",
    "mirror",
    "transport",
    "transfer",
    "registry",
    "store",
    "http",
    "content",
    "cancel",
    "progress",
    "error",
    "bytes",
];

#[test]
fn rooms_know_only_what_stands_below_them() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (height, room) in ROOMS.iter().enumerate() {
        for file in files(&root, room) {
            let text = std::fs::read_to_string(&file).unwrap();
            // Unit tests, which come last, may use what they want.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for above in &ROOMS[..height] {
                if code.contains(&format!("crate::{above}::")) || code.contains(&format!("crate::{above};")) {
                    wrong.push(format!("{} uses {above}", file.display()));
                }
            }
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
    // Every module of `src` is a room.
    let modules = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    let modules = modules.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    wrong.extend(modules.filter(|module| !ROOMS.contains(module)).map(str::to_owned));
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn each_type_has_a_name_of_its_own() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in ["src", "layers/src", "sandbox/src", "manifests/src"] {
        let (above, room) = source.rsplit_once('/').unwrap_or(("", source));
        for file in files(&root.join(above), room) {
            let shown = file.strip_prefix(root).unwrap().display().to_string();
            if shown.ends_with("/testing.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\n").next().unwrap_or_default();
            for line in code.lines() {
                let item =
                    line.strip_prefix("pub").map_or(line, |rest| rest.split_once(' ').map_or("", |(_, item)| item));
                let item = ["(super) ", "(crate) "].iter().fold(item, |item, scope| item.trim_start_matches(scope));
                let Some((kind, rest)) = item.split_once(' ') else { continue };
                if ["struct", "enum", "trait", "type", "union"].contains(&kind) {
                    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                    places.entry(name.to_owned()).or_default().push(shown.clone());
                }
            }
        }
    }
    assert!(places.len() > 500, "{}", places.len());
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

/// The files of a room, but for those of unit tests.
fn files(root: &std::path::Path, room: &str) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.join(room)];
    files.extend(Some(root.join(format!("{room}.rs"))).filter(|file| file.exists()));
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.ends_with("tests") || path.ends_with("tests.rs") {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
