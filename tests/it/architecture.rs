//! The house's shape: `src → layers → manifests`, `src → manifests`, nothing back, and no async below `src`.

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
    let (root, layers, manifests) =
        (dependencies("ociforge"), dependencies("ociforge-layers"), dependencies("ociforge-manifests"));
    assert!(root.contains(&"ociforge-layers".into()) && root.contains(&"ociforge-manifests".into()));
    assert!(layers.contains(&"ociforge-manifests".into()));
    for (below, above) in [(&layers, ["ociforge", "ociforge"]), (&manifests, ["ociforge", "ociforge-layers"])] {
        assert!(above.iter().all(|name| !below.iter().any(|dependency| dependency == name)), "{below:?}");
    }
    for name in ["tokio", "reqwest", "axum", "hyper"] {
        assert!(!layers.contains(&name.into()) && !manifests.contains(&name.into()), "{name}");
    }
}

/// The rooms of `src`, from the top down. Each may use those after it.
const ROOMS: [&str; 21] = [
    "commands", "cli", "build", "doctor", "lock", "base", "plan", "run", "sandbox", "rootfs", "serve", "mirror",
    "transfer", "locate", "registry", "store", "content", "cancel", "progress", "error", "bytes",
];

#[test]
fn rooms_know_only_what_stands_below_them() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (height, room) in ROOMS.iter().enumerate() {
        for file in files(&root, room) {
            let text = std::fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for above in &ROOMS[..height] {
                if code.contains(&format!("crate::{above}::")) || code.contains(&format!("crate::{above};")) {
                    wrong.push(format!("{} uses {above}", file.display()));
                }
            }
        }
    }
    // `cli::main` starts the commands, and they print through `cli`.
    wrong.retain(|line| !line.ends_with("cli/mod.rs uses commands"));
    assert_eq!(wrong, [] as [String; 0]);
}

fn files(root: &std::path::Path, room: &str) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![root.join(room)];
    files.extend(Some(root.join(format!("{room}.rs"))).filter(|file| file.exists()));
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                files.push(path);
            }
        }
    }
    files
}
