//! Locks with packages that are built, as far as that can be told without building.

use super::support::{Place, run};

const HASH: &str = "0f343b0457d1bd2bd6d0d3a4a3f8a0b0f3a1f1c0e6e1d7c8b9a0f1e2d3c4b5a6";

/// An entry of the lock for an archive, and one for what builds it.
fn entry(layer: usize, file: &str, requirement: &str) -> String {
    let pin = |name: &str, version: &str, file: &str| {
        let url = format!("https://files.example.org/{file}");
        format!("name = '{name}'\nversion = '{version}'\nfile = '{file}'\nurl = '{url}'\nsha256 = '{HASH}'\n")
    };
    let place = format!("platform = 'linux/amd64'\nlayer = {layer}\n");
    let requires = pin("setuptools", "70.0", requirement);
    format!("[[sdist]]\n{place}{}\n[[sdist.requires]]\n{requires}", pin("old", "1.0", file))
}

#[test]
fn a_lock_with_sources_is_checked_before_anything_is_fetched() {
    let place = Place::new();
    // A layer that takes nothing from the lock.
    place.write("recipe/ociforge.toml", "base = 'scratch'\n[[layer]]\ndirectories = ['/d']\n");
    run(&mut place.ociforge(["lock", "recipe", "--progress", "none"])).ok();
    let lock = std::fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap();
    assert!(!lock.contains("sdist"), "{lock}");
    let wheel = "setuptools-70.0-py3-none-any.whl";
    for (entry, expected) in [
        (entry(0, "old-1.0.tar.gz", wheel), "ociforge.lock has wheels for layer 0, which is no pip layer"),
        (entry(0, "old-1.0.exe", wheel), "sdist old: `file` is not a source archive's file name"),
        (entry(0, "old-1.0.tar.gz", "setuptools-70.0.tar.gz"), "sdist setuptools: `file` is not a wheel's file name"),
        (entry(0, "old-1.0.zip", wheel).replace("url = ", "uri = "), "unknown field `uri`"),
    ] {
        place.write("recipe/ociforge.lock", format!("{lock}\n{entry}"));
        run(&mut place.build("recipe", &["--locked"])).fails(1, &[expected, "hint: run `ociforge lock`"]);
    }
}
