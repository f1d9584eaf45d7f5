//! The documents: recipes and calls in them are right, and links lead to something.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::Place;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// README.md, CHANGELOG.md and the pages of docs, with their texts.
fn documents() -> Vec<(PathBuf, String)> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let files = pages.chain(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    let files: Vec<_> = files.map(|file| (file.clone(), fs::read_to_string(file).unwrap())).collect();
    assert!(files.len() > 8);
    files
}

/// The blocks of that language, each with its file for messages.
fn blocks(language: &str) -> Vec<(String, String)> {
    let fence = format!("```{language}\n");
    let mut found = Vec::new();
    for (file, text) in documents() {
        let blocks = text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
        found.extend(blocks.map(|block| (file.display().to_string(), block)));
    }
    found
}

#[test]
fn recipes_and_lists_can_be_read() {
    let blocks = blocks("toml");
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for (file, block) in blocks {
        let place = Place::new();
        if block.contains("[[image]]") {
            let list = place.write("mirror.toml", &block);
            ociforge::plan::read_mirror(&list).unwrap_or_else(|error| panic!("{file}: {error}\n{block}"));
            continue;
        }
        let base = if block.contains("base = ") { "" } else { "base = 'debian'\n" };
        place.write("ociforge.toml", format!("{base}{block}"));
        let plan = ociforge::plan::read(&place.path(""), &BTreeMap::new());
        plan.unwrap_or_else(|error| panic!("{file}: {error}\n{block}"));
    }
}

#[test]
fn calls_have_flags_that_there_are() {
    let mut calls = 0;
    for (file, block) in blocks("sh") {
        for line in block.lines().filter_map(|line| line.split("ociforge ").nth(1)) {
            let line = line.split(" #").next().unwrap().replace('\'', "");
            // `--help` ends the call when all before it is right.
            let words = line.split_whitespace().take_while(|word| !matches!(*word, "--" | "|"));
            let output = Command::new(env!("CARGO_BIN_EXE_ociforge")).args(words).arg("--help").output().unwrap();
            assert!(output.status.success(), "{file}: {line}\n{}", String::from_utf8_lossy(&output.stderr));
            calls += 1;
        }
    }
    assert!(calls >= 10, "{calls}");
}

#[test]
fn links_lead_to_something() {
    for (file, text) in documents() {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(path.exists(), "{}: {target}", file.display());
            let heading =
                |line: &str| line.trim_start_matches('#').trim().to_lowercase().replace(',', "").replace(' ', "-");
            let there = || {
                fs::read_to_string(&path).unwrap().lines().any(|line| line.starts_with('#') && heading(line) == anchor)
            };
            assert!(anchor.is_empty() || there(), "{}: {target}", file.display());
        }
    }
}

#[test]
fn the_readme_is_short() {
    assert!(fs::read_to_string(root().join("README.md")).unwrap().lines().count() <= 150);
}
