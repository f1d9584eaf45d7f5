//! Where an image goes besides a registry, and the files that a build reads and writes.

use std::fs;

use serde_json::{Value, json};

use super::support::{Place, Registry, digest_of, run, skopeo, skopeo_copy, skopeo_raw, unpack};

fn inspect(image: &str) -> Value {
    serde_json::from_str(&skopeo_raw(image)).unwrap()
}

fn config(image: &str) -> Vec<u8> {
    skopeo(&["inspect", "--config", "--raw", image]).into_bytes()
}

/// A recipe with a file, on `base`.
fn recipe(place: &Place, base: &str) {
    place.write(
        "recipe/ociforge.toml",
        format!("base = '{base}'\n[[layer]]\ncopy = {{ from = 'file', to = '/app/file' }}\n"),
    );
    place.write("recipe/file", "content\n".repeat(100));
}

#[test]
fn layouts_and_archives_are_written_and_built_upon() {
    let place = Place::new();
    let (layout, archive) =
        (format!("oci:{}:one", place.at("layout")), format!("oci-archive:{}:two", place.at("a.tar")));
    recipe(&place, "scratch");
    let first = place.built("recipe", &["-o", &layout, "-o", &archive]);
    for image in [&layout, &archive] {
        assert_eq!(digest_of(skopeo_raw(image).as_bytes()), first["digest"], "{image}");
        recipe(&place, image);
        let id = place.at("id");
        let out = format!("oci:{}:on", place.at("out"));
        let told = place.built("recipe", &["-o", &out, "--iidfile", &id]);
        assert_eq!(fs::read_to_string(id).unwrap().trim(), digest_of(&config(&out)));
        assert_eq!(digest_of(skopeo_raw(&out).as_bytes()), told["digest"]);
        let root = unpack(&place, &out);
        assert_eq!(fs::read_to_string(root.join("app/file")).unwrap(), "content\n".repeat(100));
        fs::remove_dir_all(place.path("out")).unwrap();
    }
    // On an archive, to an archive, and to a registry.
    let registry = Registry::serve(&place, "registry");
    recipe(&place, &archive);
    let onward = format!("oci-archive:{}", place.at("b.tar"));
    let name = format!("{}/x", registry.address);
    let told = place.built("recipe", &["-o", &onward, "-t", &name, "--push"]);
    for image in [&onward, &registry.name("x")] {
        assert_eq!(inspect(image)["layers"].as_array().unwrap().len(), 2);
        skopeo_copy(image, &format!("dir:{}", place.at("copied")));
    }
    assert_eq!(told["bytes"]["streamed"], 0);
}

#[test]
fn an_image_has_as_many_names_as_wanted() {
    let place = Place::new();
    let (one, two) = (Registry::serve(&place, "one"), Registry::docker(&place, "two"));
    recipe(&place, "scratch");
    let names = [format!("{}/a:v1", one.address), format!("{}/b/c", one.address), format!("{}/d:v2", two.address)];
    let tags: Vec<&str> = names.iter().flat_map(|name| ["-t", name.as_str()]).collect();
    let printed = run(&mut place.build("recipe", &[&tags[..], &["--push"]].concat())).ok();
    let (_, digest) = printed.trim().split_once('@').unwrap();
    assert_eq!(printed, format!("{}/a@{digest}\n", one.address));
    for (registry, name) in [(&one, "a/manifests/v1"), (&one, "b/c/manifests/latest"), (&two, "d/manifests/v2")] {
        let (status, manifest) = registry.get(&format!("/v2/{name}"));
        assert_eq!((status, digest_of(&manifest).as_str()), (200, digest), "{name}");
    }
    // Without --push it stays here, where `inspect` finds it.
    run(&mut place.build("recipe", &["-t", "registry.invalid/x:y"])).ok();
    let shown = run(&mut place.ociforge(["inspect", "--raw", "registry.invalid/x:y"])).ok();
    assert_eq!(digest_of(shown.as_bytes()), digest);
}

#[test]
fn a_lock_pins_the_base_and_the_wheels() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    let base = format!("{}/base:v1", registry.address);
    place.small_base(&base, "old");
    let text = |requirement: &str| {
        format!(
            "name = '{}/app'\nbase = '{base}'\n[python]\nversion = '3.11'\nsite-packages = \
                '/usr/lib/python3/site-packages'\n\
             executable = '/usr/bin/python3'\n[[layer]]\npip = ['{requirement}']\n",
            registry.address
        )
    };
    place.write("recipe/ociforge.toml", text("tabulate<0.9"));
    run(&mut place.build("recipe", &["--locked"])).fails(1, &["ociforge.lock is missing", "hint: run `ociforge lock`"]);

    let printed = run(&mut place.ociforge(["lock", "recipe", "--progress", "none"])).ok();
    assert_eq!(printed.trim(), "recipe/ociforge.lock");
    let lock = fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap();
    let parsed: toml::Table = lock.parse().unwrap();
    let (_, manifest) = registry.get("/v2/base/manifests/v1");
    let pinned = &parsed["base"][0];
    assert_eq!(pinned["digest"].as_str().unwrap(), digest_of(&manifest));
    assert_eq!((pinned["name"].as_str(), pinned["platform"].as_str()), (Some(base.as_str()), Some("linux/amd64")));
    let wheel = &parsed["wheel"][0];
    assert_eq!(wheel["name"].as_str(), Some("tabulate"));
    assert!(wheel["version"].as_str().unwrap().starts_with("0.8"));
    assert_eq!(wheel["sha256"].as_str().unwrap().len(), 64);
    assert!(wheel["url"].as_str().unwrap().ends_with(".whl") && wheel["size"].as_integer().unwrap() > 1000);
    run(&mut place.ociforge(["lock", "recipe", "--progress", "none"])).ok();
    assert_eq!(fs::read_to_string(place.path("recipe/ociforge.lock")).unwrap(), lock, "the same lock, byte by byte");

    // The base's tag moves; a locked build does not follow, and needs no uv.
    let first = place.built("recipe", &["--locked", "--push"]);
    place.small_base(&base, "new");
    let mut command = place.build("recipe", &["--locked", "--push"]);
    command.env("PATH", "/nonexistent");
    assert!(run(&mut command).ok().trim().ends_with(first["digest"].as_str().unwrap()));
    place.write("recipe/ociforge.toml", text("tabulate<0.9").replace("[python]", "[config]\ncmd = ['x']\n[python]"));
    run(&mut place.build("recipe", &["--locked"])).ok();
    place.write("recipe/ociforge.toml", text("tabulate"));
    run(&mut place.build("recipe", &["--locked"]))
        .fails(1, &["does not match the recipe", "hint: run `ociforge lock`"]);
    let followed = run(&mut place.build("recipe", &["--push"]));
    assert!(followed.stderr.contains("warning: "), "{}", followed.stderr);
    assert!(!followed.ok().contains(first["digest"].as_str().unwrap()));
}

#[test]
fn layers_are_compressed_as_asked() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    recipe(&place, "scratch");
    let mut diff_ids = Vec::new();
    for (kind, suffix) in [("gzip", "+gzip"), ("zstd", "+zstd"), ("none", "")] {
        let name = format!("{}/app:{kind}", registry.address);
        let told = place.built("recipe", &["-t", &name, "--push", "--compression", kind]);
        let image = registry.name(&format!("app:{kind}"));
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        assert_eq!(inspect(&image)["layers"][0]["mediaType"], media_type);
        diff_ids.push(told["layers"][0]["diffId"].clone());
        let pulled = format!("oci:{}:{kind}", place.at("pulled"));
        skopeo_copy(&image, &pulled);
        // umoci may not know zstd yet: skopeo writes it plain.
        let plain = format!("dir:{}", place.at(&format!("plain-{kind}")));
        skopeo(&["copy", "--quiet", "--dest-decompress", &pulled, &plain]);
        let manifest: Value =
            serde_json::from_slice(&fs::read(place.path(format!("plain-{kind}/manifest.json"))).unwrap()).unwrap();
        assert_eq!(manifest["layers"][0]["digest"], told["layers"][0]["diffId"], "{kind}");
        if kind != "zstd" {
            assert!(unpack(&place, &pulled).join("app/file").exists());
        }
    }
    assert!(diff_ids.iter().all(|id| *id == diff_ids[0]), "the same tar whatever its compression");
    let level = ["--compression-level", "20", "--compression", "zstd"];
    run(&mut place.build("recipe", &level)).fails(2, &["the compression level 20 is not supported"]);
}

#[test]
fn what_is_read_by_programs_is_json() {
    let place = Place::new();
    recipe(&place, "scratch");
    let ran = run(&mut place.ociforge(["build", "recipe", "-t", "x.invalid/y", "--progress", "json"]));
    let events: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(!events.is_empty());
    ran.ok();
    let failed = run(&mut place.ociforge(["build", "nowhere", "--progress", "json"]));
    let event: Value = serde_json::from_str(failed.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((event["event"].clone(), failed.code), (json!("error"), Some(2)), "{event}");
    let shown = run(&mut place.ociforge(["inspect", "x.invalid/y", "--format", "json"])).ok();
    assert!(serde_json::from_str::<Value>(&shown).unwrap().is_object(), "{shown}");
}
