//! Whole specs.

mod bad_input;
mod flags;
mod rootless;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::document::Document;

fn image(config: Value) -> Config {
    let json = json!({
        "os": "linux", "architecture": "amd64", "created": "2024-01-02T03:04:05Z", "author": "me",
        "rootfs": {"type": "layers", "diff_ids": []}, "config": config,
    });
    (*Document::<Config>::from_json(json).unwrap()).clone()
}

/// Something in the style of NVIDIA's images.
fn pytorch() -> Config {
    image(json!({
        "Entrypoint": ["/opt/nvidia/nvidia_entrypoint.sh"], "Cmd": ["bash"], "WorkingDir": "/code",
        "Env": ["PATH=/usr/local/cuda/bin:/usr/bin", "NVIDIA_VISIBLE_DEVICES=void", "CUDA_VERSION=11.8.0.065",
                "NVIDIA_REQUIRE_CUDA=cuda>=9.0", "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"],
        "Labels": {"a": "b", "org.opencontainers.image.author": "you", "org.systemd.property.ExecStart": "evil"},
        "ExposedPorts": {"8888/tcp": {}, "6006/tcp": {}}, "StopSignal": "SIGINT",
    }))
}

fn host() -> Host {
    Host { root: "/bundle/rootfs".into(), nvidia_hook: Some("/opt/nvidia/hook".into()), ..Host::default() }
}

fn emit(config: &Config, request: &ContainerRequest) -> Emitted {
    runtime_spec(config, &BTreeMap::new(), request, &host()).unwrap()
}

fn settings(json: Value) -> RuntimeSettings {
    serde_json::from_value(json).unwrap()
}

/// The seed of it all: `--gpus all --shm-size=64g --ipc=host --net=host --cpuset-cpus="0-31" -it`.
fn run_line() -> ContainerRequest {
    let settings = settings(json!({
        "gpus": "all", "shm-size": "64g", "ipc": "host", "network": "host", "cpuset-cpus": "0-31",
    }));
    ContainerRequest {
        settings,
        tty: true,
        interactive: true,
        command: vec!["bash".into()],
        ..ContainerRequest::default()
    }
}

/// Files that lie at the same place in the container.
fn shared(files: &[&str]) -> BTreeMap<String, String> {
    files.iter().map(|&file| (file.to_owned(), file.to_owned())).collect()
}

fn namespaces(spec: &Value) -> Vec<&str> {
    let all = spec["linux"]["namespaces"].as_array().unwrap();
    all.iter().map(|namespace| namespace["type"].as_str().unwrap()).collect()
}

fn mount<'a>(spec: &'a Value, destination: &str) -> Option<&'a Value> {
    spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == destination)
}

#[test]
fn the_run_line_with_gpus() {
    let Emitted { json: spec, warnings } = emit(&pytorch(), &run_line());
    assert_eq!(spec["process"]["args"], json!(["/opt/nvidia/nvidia_entrypoint.sh", "bash"]));
    assert_eq!(
        spec["process"]["env"],
        json!([
            "PATH=/usr/local/cuda/bin:/usr/bin",
            "TERM=xterm",
            "NVIDIA_VISIBLE_DEVICES=all",
            "CUDA_VERSION=11.8.0.065",
            "NVIDIA_REQUIRE_CUDA=cuda>=9.0",
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility,video"
        ])
    );
    assert_eq!(spec["process"]["terminal"], true);
    assert_eq!(spec["process"]["cwd"], "/code");
    assert_eq!(spec["process"]["user"], json!({"uid": 0, "gid": 0, "additionalGids": [0]}));
    assert_eq!(
        spec["hooks"],
        json!({"prestart": [{
            "path": "/opt/nvidia/hook",
            "args": ["nvidia-container-runtime-hook", "prestart"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        }]})
    );
    assert_eq!(namespaces(&spec), ["mount", "uts", "pid", "cgroup"]);
    assert_eq!(spec["linux"]["resources"]["cpu"], json!({"cpus": "0-31"}));
    assert_eq!(
        mount(&spec, "/dev/shm"),
        Some(
            &json!({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm", "options": ["rbind", "rprivate"]})
        )
    );
    assert_eq!(spec["root"], json!({"path": "/bundle/rootfs", "readonly": false}));
    assert_eq!(
        warnings,
        [
            "--shm-size 64g has no effect with --ipc host, which shares the host's /dev/shm",
            "the image's label org.systemd.property.ExecStart is skipped: runtimes would act on it",
        ]
    );
}

#[test]
fn a_container_without_wishes_is_dockers() {
    let Emitted { json: spec, warnings } = emit(&image(json!({"Cmd": ["sh"]})), &ContainerRequest::default());
    assert_eq!(warnings, [] as [&str; 0]);
    assert_eq!(spec["process"]["env"], json!(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]));
    assert_eq!(spec["process"]["cwd"], "/");
    assert_eq!(namespaces(&spec), ["mount", "uts", "pid", "network", "ipc", "cgroup"]);
    let shm = mount(&spec, "/dev/shm").unwrap();
    assert_eq!(shm["options"], json!(["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]));
    assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
    assert!(spec.get("hooks").is_none() && spec.get("hostname").is_none());
    assert_eq!(spec["linux"]["resources"]["devices"][0], json!({"allow": false, "access": "rwm"}));
    let sysctls = json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"});
    assert_eq!(spec["linux"]["sysctl"], sysctls);
    assert!(emit(&image(json!({"Cmd": ["sh"]})), &run_line()).json["linux"].get("sysctl").is_none());
    let v1 = Host { cgroup_v2: false, ..host() };
    let spec =
        runtime_spec(&image(json!({"Cmd": ["sh"]})), &BTreeMap::new(), &ContainerRequest::default(), &v1).unwrap();
    assert!(!namespaces(&spec.json).contains(&"cgroup"));
}

#[test]
fn the_same_input_gives_the_same_bytes_and_another_reader_takes_them() {
    let request = ContainerRequest {
        env: vec!["A=1".parse().unwrap()],
        volumes: vec!["/a:/b:ro".parse().unwrap()],
        hostname: Some("train".parse().unwrap()),
        settings: settings(json!({"gpus": "2", "ulimits": ["memlock=-1:-1"], "shm-size": "1g"})),
        ..ContainerRequest::default()
    };
    let emitted = emit(&pytorch(), &request);
    assert_eq!(emitted.bytes(), emit(&pytorch(), &request).bytes());
    let spec: oci_spec::runtime::Spec = serde_json::from_slice(&emitted.bytes()).unwrap();
    assert_eq!(spec.hostname().as_deref(), Some("train"));
    assert_eq!(spec.mounts().as_ref().unwrap().len(), 8);
    assert_eq!(spec.process().as_ref().unwrap().rlimits().as_ref().unwrap()[0].soft(), u64::MAX);
}

#[test]
fn the_environment_has_one_entry_a_key() {
    let config = image(json!({"Cmd": ["sh"], "Env": ["A=1", "B=2", "A=3", "NOVALUE", "=x", "C==c=", "TERM=vt100"]}));
    let request = ContainerRequest {
        env: ["B", "D=4", "A=5", "D=6", "PATH=/bin"].iter().map(|text| text.parse().unwrap()).collect(),
        tty: true,
        hostname: Some("h".parse().unwrap()),
        ..ContainerRequest::default()
    };
    let Emitted { json: spec, warnings } = emit(&config, &request);
    assert_eq!(spec["process"]["env"], json!(["PATH=/bin", "HOSTNAME=h", "TERM=vt100", "A=5", "C==c=", "D=6"]));
    assert_eq!(warnings.len(), 2);
}

#[test]
fn entrypoint_and_command() {
    let words = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let config = image(json!({"Entrypoint": ["/e", "x"], "Cmd": ["c"]}));
    for (entrypoint, command, expected) in [
        (None, &[][..], json!(["/e", "x", "c"])),
        (None, &["d", "e"], json!(["/e", "x", "d", "e"])),
        (Some(&["/f"][..]), &[], json!(["/f"])),
        (Some(&["/f"]), &["d"], json!(["/f", "d"])),
        (Some(&[]), &["d"], json!(["d"])),
    ] {
        let request = ContainerRequest {
            entrypoint: entrypoint.map(words),
            command: words(command),
            ..ContainerRequest::default()
        };
        assert_eq!(emit(&config, &request).json["process"]["args"], expected);
    }
    let none = ContainerRequest { entrypoint: Some(Vec::new()), ..ContainerRequest::default() };
    assert!(matches!(runtime_spec(&config, &BTreeMap::new(), &none, &host()), Err(SpecError::NoCommand)));
}

#[test]
fn gpus_in_the_environment() {
    let env = |gpus: &str, image_env: Value| {
        let request = ContainerRequest { settings: settings(json!({"gpus": gpus})), ..ContainerRequest::default() };
        let spec = emit(&image(json!({"Cmd": ["sh"], "Env": image_env})), &request).json;
        let entries: Vec<String> = serde_json::from_value(spec["process"]["env"].clone()).unwrap();
        (entries[1..].join(" "), spec.get("hooks").is_some())
    };
    for (gpus, image_env, expected) in [
        ("2", json!([]), "NVIDIA_VISIBLE_DEVICES=0,1"),
        ("device=1,2", json!(["NVIDIA_VISIBLE_DEVICES=all", "A=b"]), "NVIDIA_VISIBLE_DEVICES=1,2 A=b"),
        (
            "all,capabilities=video,utility",
            json!(["NVIDIA_DRIVER_CAPABILITIES=compute"]),
            "NVIDIA_DRIVER_CAPABILITIES=video,utility NVIDIA_VISIBLE_DEVICES=all",
        ),
        ("all,capabilities=compute,all", json!([]), "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=all"),
    ] {
        assert_eq!(env(gpus, image_env), (expected.to_owned(), true), "{gpus}");
    }
    assert_eq!(env("0", json!(["NVIDIA_VISIBLE_DEVICES=all"])), ("NVIDIA_VISIBLE_DEVICES=void".to_owned(), false));
}

#[test]
fn ways_to_ask_for_gpus_that_need_a_word() {
    let ask = |gpus: Option<&str>, nvidia, env: &[&str], host: &Host| {
        let settings = RuntimeSettings { gpus: gpus.map(|text| text.parse().unwrap()), ..RuntimeSettings::default() };
        let env = env.iter().map(|text| text.parse().unwrap()).collect();
        let request = ContainerRequest { settings, nvidia, env, ..ContainerRequest::default() };
        let config = image(json!({"Cmd": ["sh"], "Env": ["CUDA_VERSION=12.3.2.001"]}));
        runtime_spec(&config, &BTreeMap::new(), &request, host).map(|emitted| {
            let hook = emitted.json.pointer("/hooks/prestart/0/path").and_then(Value::as_str).map(str::to_owned);
            (hook, emitted.warnings.join("; "))
        })
    };
    let (hook, warnings) = ask(Some("all"), Nvidia::Auto, &[], &Host::default()).unwrap();
    assert_eq!(hook.unwrap(), "/usr/bin/nvidia-container-runtime-hook");
    for part in ["four parts", "was not found", "relative root `rootfs`"] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    let (hook, warnings) = ask(Some("all"), Nvidia::None, &[], &host()).unwrap();
    assert_eq!((hook, warnings.as_str()), (None, "--gpus all has no effect with --nvidia none"));
    let visible = "NVIDIA_VISIBLE_DEVICES=0";
    let (hook, warnings) = ask(None, Nvidia::Auto, &[visible], &host()).unwrap();
    assert!(hook.is_none() && warnings.contains("alone has no effect"));
    let fine = [visible, "NVIDIA_REQUIRE_CUDA=cuda>=9.0"];
    assert_eq!(ask(None, Nvidia::Hook, &fine, &host()).unwrap(), (Some("/opt/nvidia/hook".into()), String::new()));
    let (_, warnings) = ask(Some("1"), Nvidia::Hook, &["NVIDIA_VISIBLE_DEVICES=1", fine[1]], &host()).unwrap();
    assert_eq!(warnings, "--gpus sets NVIDIA_VISIBLE_DEVICES, and overrides --env");
}

#[test]
fn mounts_and_their_order() {
    let request = ContainerRequest {
        volumes: ["/x/y:/data/deep/er", "data:/data", "/dev/shm:/dev/shm", "./rel:/etc"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        settings: settings(json!({"network": "host", "shm-size": "1g"})),
        ..ContainerRequest::default()
    };
    let host = Host {
        directory: Some("/home/me/".into()),
        network_files: shared(&["/etc/hosts", "/etc/resolv.conf"]),
        ..host()
    };
    let config = image(json!({"Cmd": ["sh"]}));
    let Emitted { json: spec, warnings } = runtime_spec(&config, &BTreeMap::new(), &request, &host).unwrap();
    let places: Vec<_> = spec["mounts"].as_array().unwrap()[6..]
        .iter()
        .map(|mount| (mount["destination"].as_str().unwrap(), mount["source"].as_str().unwrap()))
        .collect();
    assert_eq!(
        places,
        [
            ("/data", "/home/me/data"),
            ("/etc", "/home/me/rel"),
            ("/dev/shm", "/dev/shm"),
            ("/etc/hosts", "/etc/hosts"),
            ("/etc/resolv.conf", "/etc/resolv.conf"),
            ("/data/deep/er", "/x/y"),
        ]
    );
    assert_eq!(
        warnings,
        [
            "the volume `data` is the directory /home/me/data; there are no named volumes",
            "--shm-size 1g has no effect with a volume at /dev/shm",
        ]
    );
    let two = |first: &str, second: &str| {
        let volumes = vec![first.parse().unwrap(), second.parse().unwrap()];
        runtime_spec(&config, &BTreeMap::new(), &ContainerRequest { volumes, ..ContainerRequest::default() }, &host)
    };
    for (first, second) in [("/a:/b", "/c:/b/"), ("/a:/b", "/a:/b:ro"), ("/a:/b", "/a:/b:z")] {
        assert!(matches!(two(first, second), Err(SpecError::SamePlace(place)) if place == "/b"), "{second}");
    }
    let once = two("/a:/b:ro", "/a:/b:ro").unwrap().json["mounts"].to_string();
    assert_eq!(once.matches("\"/b\"").count(), 1);
}

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

#[test]
fn what_makes_no_container() {
    let fails = |config: &Config, request: &ContainerRequest| {
        runtime_spec(config, &BTreeMap::new(), request, &host()).unwrap_err().to_string()
    };
    let sh = image(json!({"Cmd": ["sh"]}));
    let with = |edit: fn(&mut ContainerRequest)| {
        let mut request = ContainerRequest::default();
        edit(&mut request);
        request
    };
    let mut windows = sh.clone();
    windows.platform.os = "windows".into();
    assert!(fails(&windows, &ContainerRequest::default()).contains("is for windows"));
    assert!(fails(&image(Value::Null), &ContainerRequest::default()).contains("no command"));
    assert!(
        fails(&image(json!({"Cmd": ["sh"], "User": "me"})), &ContainerRequest::default()).contains("`me` is a name")
    );
    assert!(fails(&image(json!({"Cmd": ["a\0b"]})), &ContainerRequest::default()).contains("command has a NUL"));
    assert!(
        fails(&image(json!({"Cmd": ["a"], "Env": ["A=\0"]})), &ContainerRequest::default()).contains("environment has")
    );
    assert!(fails(&sh, &with(|request| request.workdir = Some("code".into()))).contains("not an absolute path"));
    assert!(
        fails(&sh, &with(|request| request.devices = vec!["a/b=c".into()])).contains("unresolvable CDI devices a/b=c")
    );
    assert!(
        fails(&sh, &with(|request| request.devices = vec!["/dev/x".into()])).contains("not the name of a CDI device")
    );
    assert!(fails(&sh, &with(|request| request.volumes = vec!["a:/b".parse().unwrap()])).contains("is relative"));
}

#[test]
fn a_container_that_runs_now_gets_what_this_machine_has() {
    let image = image(json!({"Cmd": ["sh"]}));
    let request = |cpus: &str, gpus: Option<&str>| {
        let settings = json!({"cpuset-cpus": cpus});
        let mut settings: RuntimeSettings = serde_json::from_value(settings).unwrap();
        settings.gpus = gpus.map(|text| text.parse().unwrap());
        ContainerRequest { settings, ..ContainerRequest::default() }
    };
    let spec = |runs_here, request: &ContainerRequest| {
        let host = Host { runs_here, cpus: "0-1".parse().ok(), root: "/r".into(), ..Host::default() };
        runtime_spec(&image, &BTreeMap::new(), request, &host)
    };
    for (runs_here, asked, gets, said) in [
        (true, "0-31", "0-1", "this machine has the CPUs 0-1; the container gets 0-1 of --cpuset-cpus 0-31"),
        (true, "4-5", "4-5", "this machine has the CPUs 0-1; a runtime refuses --cpuset-cpus 4-5 on it"),
        (false, "0-31", "0-31", "this machine has the CPUs 0-1; a runtime refuses --cpuset-cpus 0-31 on it"),
    ] {
        let emitted = spec(runs_here, &request(asked, None)).unwrap();
        assert_eq!(emitted.json["linux"]["resources"]["cpu"]["cpus"], gets);
        assert_eq!(emitted.warnings, [said]);
    }
    assert!(spec(false, &request("0", Some("all"))).is_ok());
    let error = spec(true, &request("0", Some("all"))).unwrap_err();
    assert!(matches!(error, SpecError::NoToolkit(None)) && error.hint().unwrap().contains("nvidia-container-toolkit"));
}

#[test]
fn users_come_from_the_accounts_of_the_root_filesystem() {
    let users = UserDatabase { passwd: "me:x:1000:100::/:".into(), group: "video:x:44:me".into() };
    let host = Host { users: Some(users), ..host() };
    let config = image(json!({"Cmd": ["sh"], "User": "me"}));
    let user = |request: &ContainerRequest| {
        runtime_spec(&config, &BTreeMap::new(), request, &host).unwrap().json["process"]["user"].clone()
    };
    assert_eq!(user(&ContainerRequest::default()), json!({"uid": 1000, "gid": 100, "additionalGids": [100, 44]}));
    let flag = ContainerRequest { user: Some("5:6".into()), ..ContainerRequest::default() };
    assert_eq!(user(&flag), json!({"uid": 5, "gid": 6, "additionalGids": [6]}));
}
