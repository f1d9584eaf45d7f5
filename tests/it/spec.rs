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

/// The spec that a call prints, validated.
fn spec(place: &Place, arguments: &[&str]) -> Value {
    let text = run(&mut place.ociforge([&["spec", "--progress", "none"], arguments].concat())).ok();
    let file = place.write("spec.json", &text);
    tool("/usr/bin/python3", &["-c", VALIDATE, SCHEMA, file.to_str().unwrap()]);
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
