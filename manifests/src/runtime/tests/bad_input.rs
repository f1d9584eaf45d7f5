//! Images and requests that are broken or hostile: an error that says so, or a warning and a container without it.

use super::*;
use crate::document::Document;

/// What becomes of a whole image config: the errors, outermost first, or the warnings.
fn outcome(config: Value, edit: impl Fn(&mut ContainerRequest)) -> Result<(Value, Vec<String>), String> {
    let chain = |error: &dyn std::error::Error| {
        let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    };
    let config = Document::<Config>::from_json(config).map_err(|error| chain(&error))?;
    let mut request = ContainerRequest::default();
    edit(&mut request);
    let users = UserDatabase { passwd: "me:x:5:6::/:\n".into(), group: "us:x:7:\n".into() };
    let host = Host { users: Some(users), ..host() };
    let emitted = runtime_spec(&config, &BTreeMap::new(), &request, &host).map_err(|error| chain(&error))?;
    Ok((emitted.json, emitted.warnings))
}

/// A whole image config with `fields` for a container's process.
fn with(fields: Value) -> Value {
    let mut config = json!({"Cmd": ["sh"]});
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}, "config": config})
}

#[test]
fn broken_images_are_refused() {
    for (config, said) in [
        (json!(null), "not a valid image config"),
        (json!([]), "not a valid image config"),
        (json!("x"), "not a valid image config"),
        (json!({}), "missing field `rootfs`"),
        (json!({"rootfs": {}}), "missing field `os`"),
        (json!({"os": "linux", "rootfs": {}}), "missing field `architecture`"),
        (json!({"os": "linux", "architecture": "amd64"}), "missing field `rootfs`"),
        (json!({"os": 1, "architecture": "amd64", "rootfs": {}}), "invalid type: integer"),
        (json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["x"]}}), "not a valid image config"),
        (json!({"os": "linux", "architecture": "amd64", "rootfs": {}}), "no command"),
        (json!({"os": "linux", "architecture": "amd64", "rootfs": {}, "config": null}), "no command"),
        (json!({"os": "linux", "architecture": "amd64", "rootfs": {}, "config": []}), "expected a map"),
        (json!({"os": "freebsd", "architecture": "amd64", "rootfs": {}}), "is for freebsd"),
        (with(json!({"Cmd": "sh"})), "`Cmd` of `config`: invalid type"),
        (with(json!({"Cmd": [1]})), "`Cmd` of `config`: invalid type"),
        (with(json!({"Cmd": [], "Entrypoint": null})), "no command"),
        (with(json!({"Cmd": ["a\0"]})), "the command has a NUL"),
        (with(json!({"Env": {"A": "b"}})), "`Env` of `config`: invalid type"),
        (with(json!({"Env": ["A=\0"]})), "the environment has a NUL"),
        (with(json!({"Labels": ["a"]})), "`Labels` of `config`: invalid type"),
        (with(json!({"Labels": {"a": 1}})), "`Labels` of `config`: invalid type"),
        (with(json!({"Volumes": ["/a"]})), "`Volumes` of `config`: invalid type"),
        (with(json!({"ExposedPorts": ["1"]})), "`ExposedPorts` of `config`: invalid type"),
        (with(json!({"StopSignal": 9})), "`StopSignal` of `config`: invalid type"),
        (with(json!({"WorkingDir": "/a\0"})), "the working directory has a NUL"),
        (with(json!({"User": 5})), "`User` of `config`: invalid type"),
        (with(json!({"User": "you"})), "no user `you`"),
        (with(json!({"User": "me:them"})), "no group `them`"),
        (with(json!({"User": "me\0"})), "no user"),
        (with(json!({"User": "4294967296"})), "is not the number"),
        (with(json!({"User": "-1"})), "is not the number"),
        (with(json!({"User": "0:2147483648"})), "is not the number"),
        (with(json!({"User": " me"})), "no user ` me`"),
    ] {
        let error = outcome(config.clone(), |_| {}).expect_err(&config.to_string());
        assert!(error.contains(said), "{config}: {error}");
    }
}

#[test]
fn odd_things_of_an_image_are_left_out_with_a_word() {
    for (fields, said) in [
        (json!({"Env": ["NOVALUE"]}), "not KEY=VALUE"),
        (json!({"Env": [""]}), "not KEY=VALUE"),
        (json!({"Env": ["=x"]}), "not KEY=VALUE"),
        (json!({"WorkingDir": "code"}), "working directory `code` is relative"),
        (json!({"WorkingDir": "../../.."}), "is relative"),
        (json!({"Volumes": {"/": {}}}), "`/` is the whole root"),
        (json!({"Volumes": {"": {}}}), "is the whole root"),
        (json!({"Volumes": {"/data/..": {}}}), "is the whole root"),
        (json!({"Volumes": {"..": {}}}), "is the whole root"),
        (json!({"Volumes": {"data": {}}}), "`data` is relative"),
        (json!({"Volumes": {"/proc": {}}}), "is the kernel's"),
        (json!({"Volumes": {"/proc/self/": {}}}), "is the kernel's"),
        (json!({"Volumes": {"/x/../sys/fs/cgroup": {}}}), "is the kernel's"),
        (json!({"Volumes": {"/dev": null}}), "is the kernel's"),
        (json!({"Volumes": {"/a\0": {}}}), "has a NUL"),
        (json!({"StopSignal": "SIGNONSENSE"}), "`SIGNONSENSE` is invalid"),
        (json!({"StopSignal": "99"}), "`99` is invalid"),
        (json!({"Labels": {"": "x"}}), "label without a name"),
        (json!({"Labels": {"org.systemd.property.ExecStart": "x"}}), "runtimes would act on it"),
        (json!({"Labels": {"run.oci.handler": "x"}}), "runtimes would act on it"),
        (json!({"Labels": {"org.criu.config": "/etc/passwd"}}), "runtimes would act on it"),
        (json!({"Labels": {"cdi.k8s.io/gpu": "nvidia.com/gpu=all"}}), "runtimes would act on it"),
    ] {
        let (spec, warnings) = outcome(with(fields.clone()), |_| {}).unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains(said), "{fields}: {warnings:?}");
        assert!(spec["process"]["cwd"].as_str().unwrap().starts_with('/'));
        // Nothing of the value that was refused is left.
        assert!(spec["annotations"].as_object().unwrap().len() == 2, "{fields}: {}", spec["annotations"]);
        assert_eq!(spec["mounts"].as_array().unwrap().len(), 7, "{fields}");
    }
}

#[test]
fn nulls_and_empty_values_are_nothing() {
    let empty = json!({
        "Env": null, "Entrypoint": null, "Labels": null, "Volumes": null, "ExposedPorts": null, "User": null,
        "WorkingDir": null, "StopSignal": null, "Unknown": {"a": 1},
    });
    let (spec, warnings) = outcome(with(empty), |_| {}).unwrap();
    assert_eq!((warnings.len(), &spec["process"]["cwd"]), (0, &json!("/")));
    let (spec, warnings) = outcome(with(json!({"User": "", "WorkingDir": "", "StopSignal": ""})), |_| {}).unwrap();
    assert_eq!((warnings.len(), &spec["process"]["user"]), (0, &json!({"uid": 0, "gid": 0, "additionalGids": [0]})));
}

#[test]
fn requests_that_make_no_container() {
    type Edit = fn(&mut ContainerRequest);
    let cases: [(Edit, &str); 8] = [
        (|request| request.user = Some("you".into()), "no user `you`"),
        (|request| request.workdir = Some("code".into()), "not an absolute path"),
        (|request| request.workdir = Some(String::new()), "not an absolute path"),
        (|request| request.command = vec!["a\0b".into()], "the command has a NUL"),
        (|request| request.memory = Some("1m".parse().unwrap()), "--memory 1m is too little"),
        (
            |request| {
                request.volumes = vec!["/a:/b".parse().unwrap()];
                request.tmpfs = vec!["/b".parse().unwrap()];
            },
            "two volumes have the destination /b",
        ),
        (
            |request| request.seccomp = Seccomp::Profile { name: "p.json".into(), text: "{".into() },
            "cannot use the seccomp profile p.json: not a seccomp profile",
        ),
        (
            |request| {
                let text = r#"{"defaultAction": "ALLOW"}"#.into();
                request.seccomp = Seccomp::Profile { name: "p.json".into(), text };
            },
            "p.json: `ALLOW` is not supported",
        ),
    ];
    for (edit, said) in cases {
        let error = outcome(with(json!({})), edit).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn unknown_keys_of_the_runtime_annotation_are_named() {
    for (text, said) in [
        (r#"{"volume": ["/:/host"]}"#, "unknown field `volume`"),
        (r#"{"privileged": true}"#, "unknown field `privileged`"),
        (r#"{"gpus": 2}"#, "invalid type"),
        (r#"{"ipc": "hots"}"#, "`hots` is not a value"),
        ("null", "invalid type"),
    ] {
        let error =
            RuntimeSettings::from_annotations(&BTreeMap::from([(ANNOTATION.to_owned(), text.to_owned())])).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(said), "{text}: {source}");
    }
}
