//! Whole specs of containers: processes, mounts and users.

use super::*;

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
