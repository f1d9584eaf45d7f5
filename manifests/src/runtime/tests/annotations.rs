//! Annotations, and defaults that an image carries in them.

use super::*;

#[test]
fn an_image_carries_defaults_and_flags_win() {
    let recipe = settings(json!({
        "gpus": "2", "shm-size": "65536m", "ipc": "host", "network": "host", "cpuset-cpus": "0-31",
        "ulimits": ["memlock=-1", "nofile=5"],
    }));
    let text = recipe.to_annotation().unwrap();
    assert_eq!(
        text,
        r#"{"cpuset-cpus":"0-31","gpus":"2","ipc":"host","network":"host","shm-size":"64g","ulimits":["memlock=-1:-1","nofile=5:5"]}"#
    );
    assert_eq!(RuntimeSettings::default().to_annotation(), None);
    let annotations = BTreeMap::from([(ANNOTATION.to_owned(), text)]);
    assert_eq!(RuntimeSettings::from_annotations(&annotations).unwrap(), recipe);

    let flags = settings(json!({"gpus": "device=7", "ipc": "private", "ulimits": ["nofile=9"]}));
    let request = ContainerRequest { settings: flags, ..ContainerRequest::default() };
    let host = Host { cpus: Some("0-1".parse().unwrap()), ..host() };
    let Emitted { json: spec, warnings } = runtime_spec(&pytorch(), &annotations, &request, &host).unwrap();
    assert_eq!(namespaces(&spec), ["mount", "uts", "pid", "ipc", "cgroup"]);
    assert!(mount(&spec, "/dev/shm").unwrap()["options"].to_string().contains("size=68719476736"));
    assert!(spec["process"]["env"].to_string().contains("NVIDIA_VISIBLE_DEVICES=7"));
    let limits = spec["process"]["rlimits"].as_array().unwrap();
    assert_eq!(limits.len(), 2);
    assert_eq!(limits[1], json!({"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9}));
    assert_eq!(warnings[0], "the image itself asks for --network host");
    assert!(warnings.iter().any(|warning| warning.contains("this machine has the CPUs 0-1")));
}

#[test]
fn an_annotation_that_cannot_be_read_is_an_error() {
    for text in
        ["", "[1]", "{\"volumes\":[\"/:/host\"]}", "{\"gpus\":\"utilities\"}", "{\"gpus\":2}", "{\"shm-size\":\"x\"}"]
    {
        let annotations = BTreeMap::from([(ANNOTATION.to_owned(), text.to_owned())]);
        let error = runtime_spec(&pytorch(), &annotations, &ContainerRequest::default(), &host()).unwrap_err();
        assert!(matches!(error, SpecError::Annotation(_)) && error.hint().is_some(), "{text}");
    }
}

#[test]
fn annotations_come_from_fields_and_labels() {
    let spec = emit(&pytorch(), &ContainerRequest::default()).json;
    assert_eq!(
        spec["annotations"],
        json!({
            "a": "b",
            "org.opencontainers.image.architecture": "amd64",
            "org.opencontainers.image.author": "you",
            "org.opencontainers.image.created": "2024-01-02T03:04:05Z",
            "org.opencontainers.image.exposedPorts": "6006/tcp,8888/tcp",
            "org.opencontainers.image.os": "linux",
            "org.opencontainers.image.stopSignal": "SIGINT",
        })
    );
    let json = json!({"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1.2",
                      "os.features": ["x", "y"], "rootfs": {"diff_ids": []}, "config": {"Cmd": ["sh"]}});
    let config = Document::<Config>::from_json(json).unwrap();
    let annotations = emit(&config, &ContainerRequest::default()).json["annotations"].clone();
    assert_eq!(annotations["org.opencontainers.image.os.features"], "x,y");
    assert_eq!(annotations["org.opencontainers.image.os.version"], "1.2");
    assert_eq!(annotations["org.opencontainers.image.variant"], "v8");
}
