//! `spec`: docker's command line becomes a runtime spec, and runc runs it.

use std::fs;

use serde_json::{Value, json};

use super::support::{DEBIAN, Place, run, tool, unpack};

/// Debian: golang-github-opencontainers-specs-dev
const SCHEMA: &str = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema/config-schema.json";

const VALIDATE: &str = r"
import json, pathlib, sys, jsonschema
path = pathlib.Path(sys.argv[1])
schema = json.loads(path.read_text())
validator = jsonschema.validators.validator_for(schema)(schema, resolver=jsonschema.RefResolver(path.as_uri(), schema))
validator.validate(json.load(open(sys.argv[2])))
";

/// Asserts that a file is a runtime spec.
pub(super) fn validate(file: &str) {
    tool("/usr/bin/python3", &["-c", VALIDATE, SCHEMA, file]);
}

/// The spec that a call prints, validated.
fn spec(place: &Place, arguments: &[&str]) -> Value {
    let text = run(&mut place.ociforge([&["spec", "--progress", "none"], arguments].concat())).ok();
    let file = place.write("spec.json", &text);
    validate(file.to_str().unwrap());
    serde_json::from_str(&text).unwrap()
}

/// An image `train:latest` in the store, with the variables and defaults of a training image.
fn train(place: &Place, runtime: &str) {
    let recipe = format!(
        "base = '{}'\n[config]\nworkdir = '/code'\ncmd = ['bash']\n[config.env]\nPYTHONUNBUFFERED = '1'\n\
         [[layer]]\ndirectories = ['/code']\nmode = '0777'\n{runtime}",
        DEBIAN.image
    );
    place.write("recipe/ociforge.toml", recipe);
    run(&mut place.build("recipe", &["-t", "train.invalid/train", "-o", &format!("oci:{}:x", place.at("image"))])).ok();
}

#[test]
fn the_run_line_of_a_training_image() {
    let place = Place::new();
    train(&place, "");
    let line = [
        "--gpus",
        "all",
        "--shm-size=64g",
        "--ipc=host",
        "--net=host",
        "--cpuset-cpus=0-31",
        "-it",
        "--rm",
        "train.invalid/train",
        "--",
        "bash",
    ];
    let spec = spec(&place, &line);
    assert_eq!(spec["process"]["args"], json!(["bash"]));
    assert_eq!((&spec["process"]["cwd"], &spec["process"]["terminal"]), (&json!("/code"), &json!(true)));
    let env: Vec<_> = spec["process"]["env"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect();
    for entry in ["PYTHONUNBUFFERED=1", "NVIDIA_VISIBLE_DEVICES=all"] {
        assert!(env.contains(&entry), "{env:?}");
    }
    let hook = &spec["hooks"]["prestart"][0];
    assert!(hook["path"].as_str().unwrap().contains("nvidia-container-runtime-hook"), "{hook}");
    assert_eq!(hook["args"].as_array().unwrap().last().unwrap(), "prestart");
    assert_eq!(spec["linux"]["resources"]["cpu"]["cpus"], "0-31");
    let namespaces: Vec<_> = spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| &n["type"]).collect();
    assert!(!namespaces.contains(&&json!("network")) && !namespaces.contains(&&json!("ipc")), "{namespaces:?}");

    // The same line kept with the image.
    train(&place, "[runtime]\ngpus = 'all'\nshm-size = '64g'\nipc = 'host'\nnetwork = 'host'\ncpuset-cpus = '0-31'\n");
    assert_eq!(self::spec(&place, &["-it", "train.invalid/train", "--", "bash"]), spec);
}

#[test]
fn cdi_files_of_a_directory_give_devices() {
    let place = Place::new();
    place.small_base(&format!("oci:{}:small", place.at("layout")), "x");
    let image = format!("oci:{}:small", place.at("layout"));
    place.write("cdi/nvidia.yaml", include_str!("../../manifests/tests/cdi/nvidia.yaml"));
    place.write("cdi/old.yml", "");
    let directory = place.at("cdi");
    let given = ["--cdi-spec-dir", &directory];
    let printed = |flags: &[&str]| {
        run(&mut place
            .ociforge(["spec"].into_iter().chain(given).chain(flags.iter().copied()).chain([&*image, "--", "x"])))
    };

    for flags in [
        &["--gpus", "device=0"][..],
        &["--device", "nvidia.com/gpu=0"],
        &["--nvidia", "cdi", "-e", "NVIDIA_VISIBLE_DEVICES=0"],
    ] {
        let spec = spec(&place, &[&given, flags, &[&image, "--", "x"]].concat());
        let paths: Vec<_> = spec["linux"]["devices"].as_array().unwrap().iter().map(|node| &node["path"]).collect();
        assert_eq!(paths, ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia0", "/dev/dri/card1"], "{flags:?}");
        assert_eq!(spec["linux"]["devices"][0]["minor"], 3);
        assert_eq!(spec["hooks"]["createContainer"].as_array().unwrap().len(), 4);
        assert!(spec["hooks"].get("prestart").is_none());
    }
    let old = ["-e", "NVIDIA_REQUIRE_CUDA=cuda>=12.4", "--driver-version", "535.104.05", "--gpus", "all"];
    for (flags, code, said) in [
        (&["--gpus", "3"][..], 1, &["nvidia.com/gpu=2", "old.yml"][..]),
        (&["--device", "nvidia.com/gpu=9"], 1, &["nvidia.com/gpu=9", "nvidia.com/gpu"]),
        (&["--device", "/dev/null"], 2, &["not the name of a CDI device", "VENDOR/CLASS=NAME"]),
        (
            &["--nvidia", "hook", "--gpus", "all", "--device", "nvidia.com/gpu=0"],
            2,
            &["--nvidia hook", "injected already"],
        ),
        (&["--driver-version", "new"], 2, &["--driver-version", "535.104.05"]),
        (&old, 1, &["cuda>=12.4", "driver 550.54 or newer", "NVIDIA_DISABLE_REQUIRE=1"]),
    ] {
        printed(flags).fails(code, said);
    }
    let ran = printed(&["--gpus", "all"]);
    assert!(ran.code == Some(0) && ran.stderr.contains("old.yml is skipped"), "{}", ran.stderr);
    let nowhere = ["spec", "--cdi-spec-dir", "/nowhere", "--nvidia", "cdi", "--gpus", "all", &image, "--", "x"];
    run(&mut place.ociforge(nowhere)).fails(1, &["nvidia.com/gpu=all", "/nowhere"]);
}

#[test]
fn runc_runs_what_was_built() {
    let place = Place::new();
    train(&place, "");
    let image = format!("oci:{}:x", place.at("image"));
    let root = unpack(&place, &image);
    let bundle = root.parent().unwrap();
    let container = bundle.to_str().unwrap();
    let script = "import os, sys; print(os.getcwd(), os.environ['PYTHONUNBUFFERED'], os.environ['X'], sys.executable)";
    for (arguments, shown) in [
        (&["-e", "X=1", &image, "--", "python3", "-c", script][..], "/code 1 1 /usr/bin/python3\n"),
        (&["-w", "/tmp", "--net", "none", &image, "--", "pwd"], "/tmp\n"),
        (
            &["--read-only", "-u", "1000:1000", &image, "--", "sh", "-c", "id -u; touch /code/x || echo no"],
            "1000\nno\n",
        ),
    ] {
        fs::write(bundle.join("config.json"), spec(&place, arguments).to_string()).unwrap();
        let id = format!("it-{}-{}", std::process::id(), shown.len());
        let state = place.at("runc");
        let ran = tool("runc", &["--root", &state, "run", "--bundle", container, &id]);
        assert_eq!(ran, shown, "{arguments:?}");
    }
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let place = Place::new();
    let image = format!("oci:{}:none", place.at("nowhere"));
    run(&mut place.ociforge(["spec", &image])).fails(1, &["nowhere"]);
    place.small_base(&format!("oci:{}:small", place.at("layout")), "x");
    let image = format!("oci:{}:small", place.at("layout"));
    for (flags, said) in [
        (&["--gpus", "some"][..], "some"),
        (&["--shm-size", "big"], "big"),
        (&["--network", "bridge"], "bridge"),
        (&["--ulimit", "x"], "x"),
    ] {
        let ran = run(&mut place.ociforge([&["spec"], flags, &[&image, "--", "x"]].concat()));
        assert_eq!(ran.code, Some(2), "{flags:?}: {}", ran.stderr);
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(said), "{}", ran.stderr);
    }
}
