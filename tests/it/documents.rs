//! Manifests and configs: what the specification says, and what becomes of the base's own.

use std::fs;

use serde_json::{Value, json};

use super::support::{Place, Registry, curl, digest_of, run, skopeo, skopeo_copy, skopeo_raw, tool};

/// Debian: golang-github-opencontainers-image-spec-dev
const SCHEMAS: &str = "/usr/share/gocode/src/github.com/opencontainers/image-spec/schema";

/// Validates a document against one of the image-spec's schemas. Their `id`s name places that are not on this machine.
const VALIDATE: &str = r"
import json, pathlib, sys, jsonschema
def without_ids(value, top=True):
    if isinstance(value, dict):
        return {k: without_ids(v) for k, v in value.items() if k != 'id' or not isinstance(v, str)}
    return [without_ids(v) for v in value] if isinstance(value, list) else value
directory = pathlib.Path(sys.argv[1])
schemas = {f'file:///{path.name}': without_ids(json.loads(path.read_text())) for path in directory.glob('*.json')}
schema = schemas[f'file:///{sys.argv[2]}']
resolver = jsonschema.RefResolver(f'file:///{sys.argv[2]}', schema, store=schemas)
jsonschema.Draft4Validator(schema, resolver=resolver).validate(json.load(open(sys.argv[3])))
";

fn validate(schema: &str, place: &Place, document: &[u8]) {
    let file = place.write("document.json", document);
    tool("/usr/bin/python3", &["-c", VALIDATE, SCHEMAS, &format!("{schema}-schema.json"), file.to_str().unwrap()]);
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

/// Manifest and config of an image in a registry, validated.
fn documents(place: &Place, registry: &Registry, name: &str, reference: &str) -> (Value, Value) {
    let (status, manifest) = registry.get(&format!("/v2/{name}/manifests/{reference}"));
    assert_eq!(status, 200);
    validate("image-manifest", place, &manifest);
    let manifest = json_of(&manifest);
    let digest = manifest["config"]["digest"].as_str().unwrap();
    let (status, config) = registry.get(&format!("/v2/{name}/blobs/{digest}"));
    assert_eq!((status, digest_of(&config).as_str()), (200, digest));
    validate("config", place, &config);
    (manifest, json_of(&config))
}

#[test]
#[should_panic(expected = "ValidationError")]
fn the_schemas_find_faults() {
    validate("image-manifest", &Place::new(), br#"{"schemaVersion": 2, "config": {}, "layers": []}"#);
}

/// An image in Docker's own form, whose documents say more than we know of.
fn docker_base(place: &Place, registry: &Registry) -> Value {
    place.small_base(&format!("oci:{}:small", place.at("small-layout")), "x");
    let directory = place.path("dir");
    let dir = format!("dir:{}", directory.display());
    skopeo(&["copy", "--quiet", "--format", "v2s2", &format!("oci:{}:small", place.at("small-layout")), &dir]);
    let mut manifest = json_of(&fs::read(directory.join("manifest.json")).unwrap());
    let file =
        |manifest: &Value| directory.join(manifest["config"]["digest"].as_str().unwrap().split_once(':').unwrap().1);
    let mut config = json_of(&fs::read(file(&manifest)).unwrap());
    config["docker_version"] = json!("24.0.1");
    config["container_config"] = json!({"Hostname": "builder", "Cmd": ["x"]});
    config["x-own"] = json!({"a": [1, 2.5, null]});
    config["config"]["OnBuild"] = json!(["RUN true"]);
    config["config"]["Healthcheck"] = json!({"Test": ["CMD", "true"], "Interval": 30_000_000_000u64});
    config["config"]["Env"] = json!(["PATH=/bin", "KEPT=a=b", "CHANGED=old"]);
    // One step that made no layer.
    config["history"].as_array_mut().unwrap().push(json!({"created_by": "CMD x", "empty_layer": true}));
    let bytes = config.to_string().into_bytes();
    manifest["config"]["digest"] = json!(digest_of(&bytes));
    manifest["config"]["size"] = json!(bytes.len());
    fs::write(file(&manifest), &bytes).unwrap();
    fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    skopeo_copy(&dir, &registry.name("docker-base:v1"));
    config
}

#[test]
fn what_is_not_known_of_a_docker_base_survives() {
    let place = Place::new();
    let registry = Registry::docker(&place, "registry");
    let before = docker_base(&place, &registry);
    let recipe = format!(
        "name = '{0}/app'\nbase = '{0}/docker-base:v1'\n[config.env]\nCHANGED = 'new'\n[config.labels]\na = 'b'\n\
         [[layer]]\ndirectories = ['/a']\n[[layer]]\ndirectories = ['/b']\n",
        registry.address
    );
    place.write("recipe/ociforge.toml", recipe);
    let told = place.built("recipe", &["--push"]);
    let (manifest, config) = documents(&place, &registry, "app", "latest");

    assert_eq!(manifest["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.image.config.v1+json");
    let types = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap());
    assert!(types.clone().all(|kind| kind == "application/vnd.oci.image.layer.v1.tar+gzip"), "{manifest}");
    assert_eq!(types.count(), 3);
    let annotations = &manifest["annotations"];
    assert_eq!(annotations["org.opencontainers.image.base.name"], format!("{}/docker-base:v1", registry.address));
    let raw = skopeo_raw(&registry.name("docker-base:v1"));
    assert_eq!(annotations["org.opencontainers.image.base.digest"], digest_of(raw.as_bytes()));

    for key in ["docker_version", "x-own", "os", "architecture"] {
        assert_eq!(config[key], before[key], "{key}");
    }
    for key in ["OnBuild", "Healthcheck"] {
        assert_eq!(config["config"][key], before["config"][key], "{key}");
    }
    assert_eq!(config["config"]["Env"], json!(["PATH=/bin", "KEPT=a=b", "CHANGED=new"]));
    assert_eq!(config["config"]["Labels"]["a"], "b");
    let history = config["history"].as_array().unwrap();
    let layers = history.iter().filter(|step| step["empty_layer"] != true).count();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!((layers, diff_ids.len()), (3, 3), "{config}");
    assert_eq!(history[..2], before["history"].as_array().unwrap()[..2]);
    for (n, layer) in told["layers"].as_array().unwrap().iter().enumerate() {
        assert_eq!(diff_ids[n + 1], layer["diffId"]);
        assert_eq!(manifest["layers"][n + 1]["digest"], layer["digest"]);
    }
    skopeo_copy(&registry.name("app"), &format!("oci:{}:app", place.at("pulled")));
}

/// An index `multi:v1` of the images `amd64` and `arm64` in `serve`.
fn with_index(place: &Place, registry: &Registry) {
    for architecture in ["amd64", "arm64"] {
        place.write("small/ociforge.toml", "base = 'scratch'\n[[layer]]\ncopy = { from = 'file', to = '/base' }\n");
        place.write("small/file", architecture);
        let name = format!("{}/multi:{architecture}", registry.address);
        let platform = format!("linux/{architecture}");
        run(&mut place.build("small", &["--platform", &platform, "-t", &name, "--push"])).ok();
    }
    let entries = ["amd64", "arm64"].map(|architecture| {
        let (_, manifest) = registry.get(&format!("/v2/multi/manifests/{architecture}"));
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest_of(&manifest),
               "size": manifest.len(), "platform": {"os": "linux", "architecture": architecture}})
    });
    let kind = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string();
    let file = place.write("index.json", &index);
    let data = format!("@{}", file.display());
    let url = format!("http://{}/v2/multi/manifests/v1", registry.address);
    let kind = format!("Content-Type: {kind}");
    curl(&["--fail", "-X", "PUT", "-H", &kind, "--data-binary", &data, &url]);
}

#[test]
fn the_platform_is_chosen_from_an_index() {
    let place = Place::new();
    let registry = Registry::serve(&place, "registry");
    with_index(&place, &registry);
    let recipe =
        format!("name = '{0}/app'\nbase = '{0}/multi:v1'\n[[layer]]\ndirectories = ['/a']\n", registry.address);
    place.write("recipe/ociforge.toml", recipe);
    for (arguments, architecture) in [(&[][..], "amd64"), (&["--platform", "linux/arm64"], "arm64")] {
        run(&mut place.build("recipe", &[&["--push"], arguments].concat())).ok();
        let (manifest, config) = documents(&place, &registry, "app", "latest");
        assert_eq!(config["architecture"], architecture);
        let (_, base) = registry.get(&format!("/v2/multi/manifests/{architecture}"));
        assert_eq!(manifest["layers"][0], json_of(&base)["layers"][0]);
    }
    // Both: an index of images that each have their own base.
    let told = place.built("recipe", &["--push", "--platform", "linux/amd64,linux/arm64"]);
    let (_, index) = registry.get("/v2/app/manifests/latest");
    validate("image-index", &place, &index);
    assert_eq!(told["digest"], digest_of(&index));
    let index = json_of(&index);
    let platforms: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|m| &m["platform"]["architecture"]).collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    for entry in index["manifests"].as_array().unwrap() {
        let (_, config) = documents(&place, &registry, "app", entry["digest"].as_str().unwrap());
        assert_eq!(config["architecture"], entry["platform"]["architecture"]);
    }
    skopeo_copy(&registry.name("app"), &format!("oci:{}:app", place.at("pulled")));

    let missing = run(&mut place.build("recipe", &["--push", "--platform", "linux/riscv64"]));
    missing.fails(1, &["linux/riscv64", "hint: the name has images for linux/amd64, linux/arm64"]);
    run(&mut place.build("recipe", &["--platform", "linux"])).refused("linux");
    // One image alone is not taken for another platform's.
    place.write("recipe/ociforge.toml", format!("base = '{}/multi:amd64'\n", registry.address));
    let wrong = run(&mut place.build("recipe", &["--platform", "linux/arm64"]));
    wrong.fails(1, &["linux/arm64", "hint: the name has images for linux/amd64"]);
}
