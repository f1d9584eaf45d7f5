//! Recipes of several stages, and files copied from stages and images.
//!
//! Debian: busybox-static

use std::fs;
use std::path::Path;

use serde_json::json;

use super::support::{Builds, Layered, Packing, Place, Registry, Tar, digests, json_of, run, tool};

/// A program is made in a stage on a stage, and lies alone in the image.
const STAGES: &str = "[config]
cmd = ['/app/hello']
[[layer]]
copy = { stage = 'build', from = '/out/', to = '/app/' }
[[layer]]
copy = { stage = 'build', from = '/app/link', to = '/usr/bin/', owner = '7:8', mode = 0o750 }

[[stage]]
name = 'tools'
base = 'BASE'
[stage.config.env]
GREETING = 'hello'
[[stage.layer]]
run = 'mkdir -p /opt/tools && echo tool > /opt/tools/x'

[[stage]]
name = 'build'
base = { stage = 'tools' }
[[stage.layer]]
run = 'mkdir -p /out/sub; echo \"$GREETING $(cat /opt/tools/x) $0\" > /out/hello; chmod 4755 /out/hello; ln -s hello /out/link; ln /out/hello /out/sub/hard; touch -d @7 /out/sub; rm /app/gone; ln -s ../out/hello /app/link'
shell = ['/bin/sh', '-ec']

[[stage]]
name = 'unused'
base = 'registry.invalid/none'
";

/// A base with files at a path that a stage changes.
fn base(builds: &Builds) -> String {
    let app = Tar::new().dir("app").file("app/gone", "1").file("app/stays", "2");
    Layered::busybox().layer(Packing::Zstd, app).write(&builds.place, "base")
}

#[test]
fn what_a_stage_makes_is_copied_for_every_user() {
    let images = Builds::each(|builds| {
        let base = base(&builds);
        builds.recipe_on("scratch", &STAGES.replace("BASE", &base));
        let layers = builds.built(&[]);
        let tree = builds.tree(&layers[0]);
        let line = |path: &str| tree[Path::new(path)].clone();
        assert!(line("app/hello").contains("4755"), "{tree:?}");
        assert_eq!(tree.len(), 5, "{tree:?}");
        let digests: Vec<String> = digests(&layers).into_iter().map(str::to_owned).collect();
        let again = builds.built(&[]);
        assert!(again.iter().all(|layer| layer.cached));
        (digests, tree, builds.tree(&layers[1]))
    });
    assert!(images[0] == images[1] && images[1] == images[2], "{images:#?}");
    let (_, _, bin) = &images[0];
    assert!(bin[Path::new("usr/bin/link")].contains("7:8"), "{bin:?}");
}

#[test]
fn a_copied_directory_is_as_containers_see_it() {
    let builds = Builds::as_root();
    let base = base(&builds);
    let layers = "[[layer]]\ncopy = { stage = 'build', from = '/app', to = '/new', exclude = ['link'] }\n";
    let stages = STAGES.split_once("\n\n").unwrap().1.replace("BASE", &base);
    builds.recipe_on("scratch", &format!("{layers}{stages}"));
    let layer = builds.built(&[]).remove(0);
    assert_eq!(builds.paths(&layer), ["new/", "new/stays"]);
    // The base's files are in the lock, so that a locked build does not read them.
    run(&mut builds.place.ociforge(["lock", "r"])).ok();
    let lock = fs::read_to_string(builds.place.path("r/ociforge.lock")).unwrap();
    assert!(lock.contains("stage = \"tools\"") && lock.contains("\"/app dir 0755"), "{lock}");
    assert!(!lock.contains("registry.invalid"), "{lock}");
    let again = builds.built(&["--locked", "--no-cache"]);
    assert_eq!(again[0].digest, layer.digest);
}

#[test]
fn links_and_files_may_be_in_different_layers() {
    let builds = Builds::as_root();
    let base = Layered::busybox().layer(Packing::Gzip, Tar::new().link("app", "opt/app-1").file("etc/conf", "old"));
    let base = base.write(&builds.place, "base");
    builds.recipe_on(
        &base,
        &format!(
            "[[layer]]\ncopy = {{ stage = 'b', from = '/app/tool', to = '/usr/bin/' }}\n\
             [[layer]]\ncopy = {{ stage = 'b', from = '/app/tool', to = '/etc/conf' }}\n\
             [[stage]]\nname = 'b'\nbase = '{base}'\n[[stage.layer]]\ncopy = {{ from = 'tool', to = '/opt/app-1/' }}\n"
        ),
    );
    builds.place.write("r/tool", "new");
    let layers = builds.built(&[]);
    assert_eq!(builds.paths(&layers[0]), ["usr/", "usr/bin/", "usr/bin/tool"]);
    assert_eq!(builds.paths(&layers[1]), ["etc/", "etc/conf"]);
    // The file in the base is no reason against a lock.
    run(&mut builds.place.ociforge(["lock", "r"])).ok();
    assert_eq!(digests(&builds.built(&["--locked", "--no-cache"])), digests(&layers));
}

#[test]
fn files_of_an_image_need_no_sandbox() {
    let place = Place::new();
    let mut registry = Registry::serve(&place, "registry");
    let [image, moved] = ["1", "2"].map(|tag| format!("{}/tools:{tag}", registry.address));
    let tools = |text: &str| Layered::busybox().layer(Packing::Gzip, Tar::new().file("usr/share/x", text));
    for (text, name) in [("one", &image), ("two", &moved)] {
        let layout = tools(text).write(&place, text);
        run(&mut place.ociforge(["copy", &layout, &format!("docker://{name}")])).ok();
    }
    let recipe = format!(
        "base = 'scratch'\n[[layer]]\ncopy = {{ image = '{image}', from = '/usr/share', to = '/data' }}\n\
         [[layer]]\ncopy = {{ image = '{image}', from = '/bin/ls', to = '/bin/ls' }}\n"
    );
    place.write("r/ociforge.toml", &recipe);
    run(&mut place.ociforge(["lock", "r"])).ok();
    let lock = fs::read_to_string(place.path("r/ociforge.lock")).unwrap();
    assert!(lock.contains("[[image]]") && !lock.contains("[[base]]"), "{lock}");
    let output = format!("oci:{}:x", place.at("image"));
    let build = |flags: &[&str]| place.built("r", &[&["-o", &output][..], flags].concat());
    let first = build(&["--locked"]);
    // A lock without the image is no lock for this recipe.
    place.write("r/ociforge.lock", lock.split_once("[[image]]").unwrap().0);
    run(&mut place.build("r", &["--locked"])).fails(1, &["has no entry for linux/amd64", "ociforge lock"]);
    place.write("r/ociforge.lock", &lock);
    // The tag moves, and the lock still says which image it was.
    run(&mut place.ociforge(["copy", &format!("docker://{moved}"), &format!("docker://{image}")])).ok();
    let locked = build(&["--locked", "--no-cache"]);
    assert_eq!(locked["digest"], first["digest"]);
    registry.requests();
    // Nothing is read where nothing changed, but the manifest and the config.
    build(&["--locked"]);
    let requests = registry.requests();
    let blobs = requests.iter().filter(|request| request.contains("/blobs/")).count();
    assert_eq!(blobs, 1, "the config of the image: {requests:?}");
    fs::remove_file(place.path("r/ociforge.lock")).unwrap();
    assert_ne!(build(&[])["digest"], first["digest"]);
    let files = tool("skopeo", &["inspect", "--config", &output]);
    assert!(files.contains("copy --from="), "{files}");
}

#[test]
fn a_stage_is_a_base_with_its_config_and_packages() {
    let builds = Builds::as_root();
    let base = Layered::busybox().config(json!({"Env": ["PATH=/bin"]})).write(&builds.place, "base");
    let stages = format!(
        "[config]\nenv = {{ B = '$A-2' }}\n[[layer]]\ncopy = {{ from = 'file', to = '/code/' }}\n\
         [[stage]]\nname = 'deps'\nbase = '{base}'\n[stage.config]\nenv = {{ A = '1' }}\nworkdir = '/code'\nlabels = {{ l = 'm' }}\n\
         [[stage.layer]]\ndirectories = ['/code']\nmode = 0o711\nowner = '3:4'\n"
    );
    builds.place.write("r/file", "text");
    builds.place.write("r/ociforge.toml", format!("base = {{ stage = 'deps' }}\n{stages}"));
    let layer = builds.built(&[]).remove(0);
    // The directory of the stage keeps its attributes.
    let tree = builds.tree(&layer);
    assert!(tree[Path::new("code")].contains("711") && tree[Path::new("code")].contains("3:4"), "{tree:?}");
    let config: serde_json::Value =
        serde_json::from_str(&tool("skopeo", &["inspect", "--config", &builds.image()])).unwrap();
    assert_eq!(config["config"]["Env"], json!(["PATH=/bin", "A=1", "B=1-2"]));
    assert_eq!((&config["config"]["WorkingDir"], &config["config"]["Labels"]["l"]), (&json!("/code"), &json!("m")));
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
    let manifest = json_of(builds.place.path("image/index.json"));
    assert!(manifest.to_string().contains("manifest"));
}

#[test]
fn wrong_copies_are_named_with_their_lines() {
    let place = Place::new();
    let circle = Tar::new().link("a", "b").link("b", "a").file("f", "x");
    let image = Layered::new().layer(Packing::Gzip, circle).write(&place, "image");
    let damaged = Layered::new().layer(Packing::Gzip, Tar::new().file("f", "x")).blob(|blob| blob.truncate(30));
    let damaged = damaged.write(&place, "damaged");
    for (copy, expected) in [
        (format!("image = '{image}', from = '/none'"), "there is no /none in the image or stage"),
        (format!("image = '{image}', from = '/a/x'"), "form a loop"),
        (format!("image = 'oci:{}:x', from = '/f'", place.at("nowhere")), "cannot resolve the image"),
        (format!("image = '{damaged}', from = '/f'"), "cannot read layer"),
        (format!("image = '{image}', from = '/f', exclude = ['f']"), "/f is excluded by the patterns"),
    ] {
        place.write("r/ociforge.toml", format!("base = 'scratch'\n[[layer]]\ncopy = {{ {copy}, to = '/f' }}\n"));
        run(&mut place.build("r", &[])).fails(1, &["line 3 of the recipe", expected]);
        place.assert_clean();
    }
    for text in
        ["base = { stage = 'x' }\n", "base = 'scratch'\n[[layer]]\ncopy = { stage = 'x', from = '/', to = '/' }\n"]
    {
        place.write("r/ociforge.toml", text);
        run(&mut place.build("r", &[])).fails(1, &["the name of an earlier stage", "hint: write a [[stage]]"]);
    }
}

#[test]
fn a_layout_that_has_another_image_than_the_lock_is_told() {
    let place = Place::new();
    let image = |text: &str| Layered::new().layer(Packing::Gzip, Tar::new().file("f", text)).write(&place, "image");
    let base = image("one");
    let copy = format!("base = 'scratch'\n[[layer]]\ncopy = {{ image = '{base}', from = '/f', to = '/f' }}\n");
    for recipe in [format!("base = '{base}'\n[[layer]]\ndirectories = ['/code']\n"), copy] {
        image("one");
        place.write("r/ociforge.toml", recipe);
        run(&mut place.ociforge(["lock", "r"])).ok();
        run(&mut place.build("r", &["--locked"])).ok();
        image("two");
        for flags in [&["--locked"][..], &[]] {
            let parts = ["cannot resolve the", " now, and ociforge.lock has sha256:", "hint: `ociforge lock` pins"];
            run(&mut place.build("r", flags)).fails(1, &parts);
        }
        run(&mut place.ociforge(["lock", "r"])).ok();
        run(&mut place.build("r", &["--locked"])).ok();
    }
}
