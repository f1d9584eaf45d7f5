//! `build --push`: what arrives, and what moves to get it there.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::{Value, json};

use super::support::{
    DEBIAN, OCIFORGE, Place, Registry, Wheel, chroot, json_of, run, skopeo, skopeo_copy, tool, unpack,
};

/// A recipe with all kinds of layers, on the Debian base in `registry`.
fn training(place: &Place, registry: &str) {
    let recipe = format!(
        r#"name = "{registry}/ml/train:v1"
base = "{registry}/base/debian:12"

[config]
workdir = "/code"
cmd = ["bash"]
env = {{ PYTHONUNBUFFERED = "1", MPLCONFIGDIR = "/app/cache" }}

[[layer]]
directories = ["/app/cache", "/code"]
mode = "0777"

[[layer]]
copy = {{ from = "src", to = "/code", exclude = ["*.log"] }}

[[layer]]
tar = "data.tar.gz"

[[layer]]
pip = ["colored", "tabulate", "fire", "markupsafe"]

{}"#,
        DEBIAN.stated()
    );
    place.write("recipe/ociforge.toml", recipe);
    place.write(
        "recipe/src/train.py",
        "import colored, fire, markupsafe, tabulate\nprint(tabulate.tabulate([[1, 2]]))\n",
    );
    place.write("recipe/src/run.sh", "#!/bin/sh\n");
    fs::set_permissions(place.path("recipe/src/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
    place.write("recipe/src/x.log", "not wanted");
    place.write("recipe/src/secret", "not wanted");
    place.write("recipe/.dockerignore", "**/secret\n");
    place.write("data/opt/data.txt", "data");
    tool("tar", &["-C", &place.at("data"), "-czf", &place.at("recipe/data.tar.gz"), "opt"]);
}

fn put_debian(registry: &Registry, name: &str) {
    skopeo_copy(&DEBIAN.image, &registry.name(name));
}

/// Those of `requests` that are about `repository`.
fn about<'a>(requests: &'a [String], repository: &str) -> Vec<&'a str> {
    let start = format!(" /v2/{repository}/");
    requests.iter().filter(|request| request.contains(&start)).map(String::as_str).collect()
}

#[test]
fn an_image_with_everything_is_whole_and_runs() {
    let place = Place::new();
    let mut registry = Registry::docker(&place, "registry");
    put_debian(&registry, "base/debian:12");
    training(&place, &registry.address);
    registry.requests();

    let told = place.built("recipe", &["--push"]);
    let requests = registry.requests();
    let (layer, size) = DEBIAN.layer();
    assert_eq!(told["bytes"]["mounted"], size, "{told}");
    assert_eq!((&told["bytes"]["streamed"], &told["bytes"]["present"]), (&json!(0), &json!(0)));
    assert!(told["bytes"]["downloaded"].as_u64().unwrap() < 100_000, "{told}");
    // Of the base, manifest and config alone are fetched.
    let fetched: Vec<_> = about(&requests, "base/debian").into_iter().filter(|r| r.starts_with("GET")).collect();
    assert_eq!(fetched.len(), 2, "{fetched:?}");
    assert!(fetched[0].contains("/manifests/12") && !fetched[1].contains(layer), "{fetched:?}");

    let image = registry.name("ml/train:v1");
    let seen: Value = serde_json::from_str(&skopeo(&["inspect", "--tls-verify=false", &image])).unwrap();
    assert_eq!(seen["Digest"], told["digest"]);
    assert_eq!(seen["Layers"][0], layer);
    let config = skopeo(&["inspect", "--tls-verify=false", "--config", &image]);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["config"]["Cmd"], json!(["bash"]));
    assert_eq!(config["config"]["WorkingDir"], "/code");
    let env: Vec<_> = config["config"]["Env"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect();
    for entry in ["PATH=/usr/bin:/bin", "PYTHONUNBUFFERED=1", "MPLCONFIGDIR=/app/cache"] {
        assert!(env.contains(&entry), "{env:?}");
    }

    let pulled = format!("oci:{}:v1", place.at("pulled"));
    skopeo_copy(&image, &pulled);
    let root = unpack(&place, &pulled);
    let mode = |path: &str| fs::symlink_metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("app"), mode("app/cache"), mode("code")), (0o755, 0o777, 0o777));
    assert_eq!((mode("code/train.py"), mode("code/run.sh")), (0o644, 0o755));
    let mut code: Vec<_> = fs::read_dir(root.join("code")).unwrap().map(|e| e.unwrap().file_name()).collect();
    code.sort();
    assert_eq!(code, ["run.sh", "train.py"]);
    assert_eq!(fs::read_to_string(root.join("opt/data.txt")).unwrap(), "data");
    assert!(chroot(&root, &["python3", "/code/train.py"]).contains("1  2"));
}

#[test]
fn a_python_that_is_not_stated_is_found_once() {
    let place = Place::new();
    let mut registry = Registry::serve(&place, "registry");
    put_debian(&registry, "base/debian:12");
    Wheel::new("demo", "ok = True\n").write(&place, "recipe/dist");
    let recipe = format!(
        "name = '{0}/app'\nbase = '{0}/base/debian:12'\n[[layer]]\npip = {{ wheels = 'dist/*.whl' }}\n",
        registry.address
    );
    place.write("recipe/ociforge.toml", recipe);
    let told = place.built("recipe", &["--push"]);
    let (layer, size) = DEBIAN.layer();
    assert!(told["bytes"]["downloaded"].as_u64().unwrap() >= size);
    registry.requests();
    let again = place.built("recipe", &["--push", "--no-cache"]);
    assert_eq!(again["digest"], told["digest"]);
    assert!(registry.requests().iter().all(|request| !request.starts_with("GET") || !request.contains(layer)));

    let pulled = format!("oci:{}:v1", place.at("pulled"));
    skopeo_copy(&registry.name("app"), &pulled);
    let root = unpack(&place, &pulled);
    let shown = chroot(&root, &["python3", "-c", "import demo; print(demo.ok, demo.__file__)"]);
    assert_eq!(shown.trim(), format!("True {}/demo/__init__.py", DEBIAN.site_packages()));
}

/// On a small base with a stated Python, packages from `dist/`.
fn with_wheels(place: &Place, registry: &Registry) {
    place.small_base(&format!("{}/base", registry.address), "base");
    let recipe = format!(
        "name = '{0}/app'\nbase = '{0}/base'\n[python]\nversion = '3.11'\nsite-packages = '/usr/lib/python3/site-packages'\n\
         executable = '/usr/bin/python3'\n[[layer]]\npip = {{ wheels = 'dist/*.whl' }}\n[[layer]]\ncopy = {{ from = 'data', to = '/data' }}\n",
        registry.address
    );
    place.write("recipe/ociforge.toml", recipe);
    place.write("recipe/data", "data".repeat(1000));
    Wheel::new("alpha", "version = 1\n").write(place, "recipe/dist");
    Wheel::new("beta", "version = 1\n").write(place, "recipe/dist");
    // A file that changed just now may change again unseen, and is packed anew.
    std::thread::sleep(std::time::Duration::from_millis(2100));
}

fn what_an_unchanged_build_asks(place: &Place, mut registry: Registry) {
    with_wheels(place, &registry);
    let first = place.built("recipe", &["--push"]);
    registry.requests();
    let second = place.built("recipe", &["--push"]);
    assert_eq!(first["digest"], second["digest"]);
    assert!(second["layers"].as_array().unwrap().iter().all(|layer| layer["cached"] == true), "{second}");
    assert_eq!(second["bytes"]["uploaded"], 0);
    let requests = registry.requests();
    let (heads, others): (Vec<_>, Vec<_>) = about(&requests, "app").into_iter().partition(|r| r.starts_with("HEAD"));
    assert_eq!(others, ["PUT /v2/app/manifests/latest 201"]);
    assert_eq!(heads.len(), 1 + 1 + second["layers"].as_array().unwrap().len(), "{heads:?}");
    assert!(about(&requests, "base").iter().all(|r| r.starts_with("GET")), "{requests:?}");
    assert_eq!(second["requests"]["put"], 1);
    assert_eq!(second["requests"]["post"], 0);

    // One small wheel changes: its layer, the config and the manifest are pushed.
    Wheel::new("beta", "version = 2\n").write(place, "recipe/dist");
    let third = place.built("recipe", &["--push"]);
    let digests = |told: &Value| -> Vec<String> {
        told["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    };
    let (before, after) = (digests(&first), digests(&third));
    let new: Vec<_> = after.iter().filter(|digest| !before.contains(digest)).collect();
    assert_eq!((after.len(), new.len()), (3, 1), "{third}");
    let requests = registry.requests();
    let begun = requests.iter().filter(|r| r.starts_with("POST")).count();
    let manifests = requests.iter().filter(|r| r.starts_with("PUT") && r.contains("/manifests/")).count();
    assert_eq!((begun, manifests), (2, 1), "{requests:?}");
}

#[test]
fn an_unchanged_build_only_asks_docker_registry() {
    let place = Place::new();
    let registry = Registry::docker(&place, "registry");
    what_an_unchanged_build_asks(&place, registry);
}

#[test]
fn an_unchanged_build_only_asks_serve() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    what_an_unchanged_build_asks(&place, registry);
}

#[test]
fn a_base_in_another_registry_is_streamed_past_the_disk() {
    let place = Place::new();
    let (theirs, ours) = (Registry::docker(&place, "theirs"), Registry::docker(&place, "ours"));
    put_debian(&theirs, "base/debian:12");
    let recipe = format!(
        "name = '{}/app'\nbase = '{}/base/debian:12'\n[[layer]]\ndirectories = ['/app']\n",
        ours.address, theirs.address
    );
    place.write("recipe/ociforge.toml", recipe);
    let (_, size) = DEBIAN.layer();
    // No file may grow beyond a fraction of the base's layer.
    let limit = format!("--fsize={}", size / 20);
    let told = place.at("told.json");
    let arguments = [&limit, OCIFORGE, "build", "recipe", "--push", "--progress=none", "--metadata-file", &told];
    run(&mut place.wrapped("prlimit", arguments)).ok();
    let told = json_of(told);
    assert_eq!(told["bytes"]["streamed"], size, "{told}");
    let pulled = format!("oci:{}:v1", place.at("pulled"));
    skopeo_copy(&ours.name("app"), &pulled);
    // The second time it is there, and of the other registry only the documents are read.
    let again = place.built("recipe", &["--push"]);
    assert_eq!(again["bytes"]["streamed"], 0);
    assert!(again["bytes"]["present"].as_u64().unwrap() >= size);
}
