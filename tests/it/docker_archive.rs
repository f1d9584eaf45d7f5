//! `docker-archive:`, against skopeo: what it writes is read, and what is written it reads.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::support::{DEBIAN, Place, Registry, digest_of, run, skopeo, skopeo_copy, skopeo_raw, tool, unpack};

fn config(image: &str) -> String {
    skopeo(&["inspect", "--config", "--raw", image])
}

fn diff_ids(image: &str) -> Value {
    let config: Value = serde_json::from_str(&config(image)).unwrap();
    config["rootfs"]["diff_ids"].clone()
}

/// A recipe on `base` with two layers, of which it has one twice.
fn recipe(place: &Place, base: &str) {
    let layer = "[[layer]]\ncopy = { from = 'file', to = '/app/file' }\n";
    let other = "[[layer]]\ncopy = { from = 'other', to = '/app/other' }\n";
    place.write("recipe/ociforge.toml", format!("name = 'ml/train:v1'\nbase = '{base}'\n{layer}{other}{layer}"));
    place.write("recipe/file", "content\n".repeat(100_000));
    place.write("recipe/other", "other");
}

/// The names of the entries of a tar file, and the JSON of its `manifest.json`.
fn listed(file: &Path) -> (Vec<String>, Value) {
    let mut tar = tar::Archive::new(fs::File::open(file).unwrap());
    let (mut names, mut manifest) = (Vec::new(), String::new());
    for entry in tar.entries().unwrap() {
        let mut entry = entry.unwrap();
        names.push(entry.path().unwrap().to_str().unwrap().to_owned());
        if names.last().unwrap() == "manifest.json" {
            entry.read_to_string(&mut manifest).unwrap();
        }
    }
    (names, serde_json::from_str(&manifest).unwrap())
}

#[test]
fn what_is_written_is_the_image_to_others() {
    let place = Place::new();
    recipe(&place, "scratch");
    let layout = format!("oci:{}:one", place.at("layout"));
    for (kind, file) in [("gzip", "a.tar"), ("zstd", "b.tar"), ("none", "c.tar")] {
        let ours = format!("docker-archive:{}", place.at(file));
        place.built("recipe", &["-o", &layout, "-o", &ours, "--compression", kind]);
        assert_eq!(config(&ours), config(&layout), "{kind}: another image id");
        // Others decompress and check the diff ids as they copy.
        let copied = format!("oci:{}:{kind}", place.at("copied"));
        skopeo(&["copy", "--quiet", &ours, &copied]);
        assert_eq!(diff_ids(&copied), diff_ids(&layout));
        let root = unpack(&place, &copied);
        assert_eq!(fs::read_to_string(root.join("app/file")).unwrap(), "content\n".repeat(100_000));
        // However they were compressed, the layers are the same, and each is there once.
        let (names, manifest) = listed(&place.path(file));
        let distinct: BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), distinct.len()), (4, 4), "{names:?}");
        assert_eq!(manifest[0]["RepoTags"], json!(["ml/train:v1"]));
        assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 3);
        assert_eq!(fs::read(place.path(file)).unwrap(), fs::read(place.path("a.tar")).unwrap(), "{kind}");
    }
    place.assert_clean();
}

#[test]
fn what_others_write_is_built_upon() {
    let place = Place::new();
    recipe(&place, "scratch");
    let layout = format!("oci:{}:one", place.at("layout"));
    place.built("recipe", &["-o", &layout]);
    let theirs = format!("docker-archive:{}", place.at("theirs.tar"));
    skopeo(&["copy", "--quiet", &layout, &format!("{theirs}:example.com/a/b:c")]);
    let raw = |name: &str| run(&mut place.ociforge(["inspect", "--raw", name])).ok();
    let manifest = raw(&theirs);
    assert_eq!(raw(&format!("{theirs}:example.com/a/b:c")), manifest);
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["config"]["digest"], digest_of(config(&layout).as_bytes()));
    let layers: Vec<_> = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect();
    assert_eq!(json!(layers), diff_ids(&layout));
    run(&mut place.ociforge(["inspect", &format!("{theirs}:other")]))
        .fails(1, &["no image `other:latest`", "hint: it has: example.com/a/b:c"]);

    // By a recipe, with a path that is the recipe's; to a registry, and to an archive whose base is in one.
    let registry = Registry::serve(&place, "registry");
    place.write(
        "next/ociforge.toml",
        "base = 'docker-archive:../theirs.tar'\n[[layer]]\ncopy = { from = 'new', to = '/new' }\n",
    );
    place.write("next/new", "new");
    let name = format!("{}/x:y", registry.address);
    let again = format!("docker-archive:{}", place.at("again.tar"));
    let told = place.built("next", &["-t", &name, "--push", "-o", &again]);
    assert_eq!(told["digest"], digest_of(skopeo_raw(&registry.name("x:y")).as_bytes()));
    let pulled = format!("oci:{}:x", place.at("pulled"));
    skopeo_copy(&registry.name("x:y"), &pulled);
    assert_eq!((diff_ids(&pulled), config(&pulled)), (diff_ids(&again), config(&again)));
    let root = unpack(&place, &pulled);
    assert_eq!(fs::read_to_string(root.join("app/other")).unwrap(), "other");
    assert_eq!(fs::read_to_string(root.join("new")).unwrap(), "new");
    assert_eq!(listed(&place.path("again.tar")).1[0]["RepoTags"], json!([name]));
    recipe(&place, &name);
    let file = place.at("registry.tar");
    let told = place
        .built("recipe", &["-o", &format!("docker-archive:{file}:a"), "-o", &format!("docker-archive:{file}:b:c")]);
    assert!(told["bytes"]["streamed"].as_u64().unwrap() > 1000, "{told}");
    assert_eq!(listed(Path::new(&file)).1[0]["RepoTags"], json!(["a:latest", "b:c"]));
    place.assert_clean();
}

#[test]
fn a_real_base_goes_to_an_archive_and_back() {
    let place = Place::new();
    recipe(&place, &DEBIAN.image);
    let ours = format!("docker-archive:{}", place.at("debian.tar"));
    place.built("recipe", &["-o", &ours]);
    let base = diff_ids(&DEBIAN.image);
    let written = diff_ids(&ours);
    assert_eq!(written[0], base[0]);
    // The whole way: theirs of ours, ours of theirs.
    let theirs = format!("docker-archive:{}", place.at("theirs.tar"));
    skopeo(&["copy", "--quiet", &ours, &theirs]);
    recipe(&place, &theirs);
    let out = format!("oci:{}:x", place.at("out"));
    place.built("recipe", &["-o", &out]);
    assert_eq!(diff_ids(&out).as_array().unwrap()[..4], written.as_array().unwrap()[..]);
    let root = unpack(&place, &out);
    assert!(root.join("usr/bin/python3").exists() && root.join("app/file").exists());
}

#[test]
fn what_can_not_be_is_said_before_anything_is_done() {
    let place = Place::new();
    recipe(&place, "scratch");
    let out = format!("docker-archive:{}", place.at("a.tar"));
    let several = ["--platform", "linux/amd64,linux/arm64", "-o", &out];
    run(&mut place.build("recipe", &several)).fails(2, &["one platform only", "--platform"]);
    let digest = format!("{out}:a@{}", digest_of(b""));
    run(&mut place.build("recipe", &["-o", &digest])).refused("has a tag, not a digest");
    run(&mut place.build("recipe", &["-o", &format!("{out}:@0")])).refused("takes an image name, not a position");
    assert!(!place.path("a.tar").exists());
}

#[test]
fn archives_are_read_compressed_and_images_without_a_name_by_their_place() {
    let place = Place::new();
    recipe(&place, "scratch");
    let layout = format!("oci:{}:one", place.at("layout"));
    place.built("recipe", &["-o", &layout, "-o", &format!("docker-archive:{}", place.at("a.tar"))]);
    let raw = |name: &str| run(&mut place.ociforge(["inspect", "--raw", name])).ok();
    let plain = raw("docker-archive:a.tar");
    for (program, ending) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2")] {
        fs::copy(place.path("a.tar"), place.path("b.tar")).unwrap();
        tool(program, &["--quiet", &place.at("b.tar")]);
        let name = format!("docker-archive:b.tar.{ending}");
        assert_eq!(raw(&name), plain);
        run(&mut place.ociforge(["copy", &name, &format!("oci:copied:{ending}")])).ok();
        assert_eq!(diff_ids(&format!("oci:{}:{ending}", place.at("copied"))), diff_ids(&layout));
        fs::remove_file(place.path("b.tar")).ok();
    }
    // As `docker save ID` writes it.
    skopeo(&["copy", "--quiet", &layout, &format!("docker-archive:{}", place.at("unnamed.tar"))]);
    assert_eq!(listed(&place.path("unnamed.tar")).1[0]["RepoTags"], json!([]));
    assert_eq!(raw("docker-archive:unnamed.tar:@0"), raw("docker-archive:unnamed.tar"));
    let error = run(&mut place.ociforge(["inspect", "docker-archive:unnamed.tar:@1"]));
    error.fails(1, &["the archive has no image `@1`", "hint: it has: @0"]);
}
