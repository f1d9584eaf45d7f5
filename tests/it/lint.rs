//! Warnings about the image that is built: each has a code, a hint, and a way to silence it.

use serde_json::{Value, json};

use super::support::{Place, Wheel, run};

/// A base as NVIDIA makes them, and a recipe on it that does all that one should not.
fn recipe(place: &Place, more: &str) {
    let base = format!("oci:{}:cuda", place.at("base"));
    place.write(
        "cuda/ociforge.toml",
        "base = 'scratch'\n[config]\nentrypoint = ['/opt/nvidia/nvidia_entrypoint.sh']\n[config.env]\n\
         CUDA_VERSION = '12.3.2.001'\nNVIDIA_REQUIRE_CUDA = 'cuda>=9.0'\nBASE_TOKEN = 'of-the-base-itself'\n\
         LD_LIBRARY_PATH = '/usr/local/cuda/compat/lib:/usr/lib'\n[[layer]]\ndirectories = ['/opt']\n",
    );
    run(&mut place.build("cuda", &["-o", &base])).ok();
    Wheel::new("onnxruntime", "").write(place, "recipe/dist");
    Wheel::new("onnxruntime_gpu", "").write(place, "recipe/dist");
    place.write(
        "recipe/ociforge.toml",
        format!(
            "base = '{base}'\n[python]\nversion = '3.11'\nsite-packages = '/usr/lib/python3/site-packages'\n\
             executable = '/usr/bin/python3'\n[config]\nentrypoint = ['/init']\n[config.env]\n\
             NVIDIA_REQUIRE_CUDA = ''\nLD_LIBRARY_PATH = '/lib'\nWANDB_API_KEY = 'hunter2hunter2'\n\
             [[layer]]\npip = {{ wheels = 'dist/*.whl' }}\n{more}"
        ),
    );
}

#[test]
fn each_warning_has_a_code_and_can_be_silenced() {
    let place = Place::new();
    recipe(&place, "");
    let warnings = |arguments: &[&str]| -> Vec<Value> {
        let ran = run(&mut place.ociforge([&["build", "recipe", "--progress", "json"], arguments].concat()));
        assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        let events: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        ran.ok();
        events.into_iter().filter(|event| event["event"] == "warning").collect()
    };
    let codes = |arguments: &[&str]| -> Vec<Value> {
        warnings(arguments).into_iter().map(|warning| warning["code"].clone()).collect()
    };
    let all = json!(["cuda-version", "cuda-compat", "nvidia-entrypoint", "onnxruntime-twice", "secret-env"]);
    assert_eq!(json!(codes(&[])), all);
    let secret = warnings(&[]).pop().unwrap();
    assert!(secret["text"].as_str().unwrap().contains("WANDB_API_KEY") && secret["hint"].is_string(), "{secret}");
    // Once for each platform, and none for what is allowed.
    assert_eq!(codes(&["--platform", "linux/amd64", "--allow", "secret-env", "--allow=cuda-version"]).len(), 3);
    recipe(&place, "[lint]\nallow = ['cuda-version', 'cuda-compat', 'nvidia-entrypoint', 'onnxruntime-twice']\n");
    assert_eq!(codes(&[]), ["secret-env"]);
    assert_eq!(codes(&["--allow", "secret-env"]), [] as [Value; 0]);
}

#[test]
fn people_are_told_what_to_do() {
    let place = Place::new();
    recipe(&place, "[lint]\nallow = ['cuda-version', 'cuda-compat', 'nvidia-entrypoint', 'onnxruntime-twice']\n");
    let ran = run(&mut place.build("recipe", &[]));
    let expected = "warning[secret-env]: the variable WANDB_API_KEY looks like a secret, and every user of the image \
        can read it\n  hint: remove it from the image and give it to the container: -e WANDB_API_KEY; silence it \
        with [lint] allow = [\"secret-env\"], or --allow secret-env\n";
    assert_eq!(ran.stderr, expected);
    ran.ok();

    recipe(&place, "[lint]\nallow = ['secrets-env']\n");
    run(&mut place.build("recipe", &[])).fails(1, &["`allow` is `secrets-env`", "hint: did you mean `secret-env`?"]);
    run(&mut place.build("recipe", &["--allow", "secrets-env"])).refused("did you mean `secret-env`?");
}
