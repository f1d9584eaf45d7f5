//! Flags and facts beyond the run line of a training image.

use super::*;

fn sh() -> Config {
    image(json!({"Cmd": ["sh"]}))
}

fn emit_on(host: &Host, config: &Config, request: &ContainerRequest) -> Emitted {
    runtime_spec(config, &BTreeMap::new(), request, host).unwrap()
}

#[test]
fn a_privileged_container_has_everything_there_is() {
    let request = ContainerRequest { privileged: true, ..ContainerRequest::default() };
    let host = Host { capabilities: Some(!(1 << 24)), ..host() };
    let Emitted { json: spec, warnings } = emit_on(&host, &sh(), &request);
    assert_eq!(warnings, [] as [&str; 0]);
    let bounding = spec["process"]["capabilities"]["bounding"].as_array().unwrap();
    assert!(bounding.len() == 40 && !bounding.contains(&json!("CAP_SYS_RESOURCE")));
    assert_eq!(spec["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    for place in ["/sys", "/sys/fs/cgroup"] {
        assert_eq!(mount(&spec, place).unwrap()["options"], json!(["nosuid", "noexec", "nodev"]));
    }
    for key in ["maskedPaths", "readonlyPaths", "seccomp"] {
        assert!(spec["linux"].get(key).is_none(), "{key}");
    }
    let unmasked = emit(&sh(), &ContainerRequest { unmasked: true, ..ContainerRequest::default() }).json;
    assert!(unmasked["linux"].get("maskedPaths").is_none() && unmasked["linux"].get("seccomp").is_some());
}

#[test]
fn limits_and_capabilities() {
    let request = ContainerRequest {
        cap_add: vec!["sys_ptrace".parse().unwrap()],
        cap_drop: vec!["CAP_MKNOD".parse().unwrap()],
        memory: Some("1g".parse().unwrap()),
        pids_limit: Some("100".parse().unwrap()),
        no_new_privileges: true,
        tmpfs: vec!["/run:size=64k".parse().unwrap()],
        ..ContainerRequest::default()
    };
    let spec = emit(&sh(), &request).json;
    assert_eq!(spec["linux"]["resources"]["memory"], json!({"limit": 1 << 30, "swap": 2_i64 << 30}));
    assert_eq!(spec["linux"]["resources"]["pids"], json!({"limit": 100}));
    assert_eq!(spec["process"]["noNewPrivileges"], true);
    let options = json!(["noexec", "nosuid", "nodev", "size=64k"]);
    assert_eq!(mount(&spec, "/run").unwrap()["options"], options);
    let effective = spec["process"]["capabilities"]["effective"].to_string();
    assert!(effective.contains("CAP_SYS_PTRACE") && !effective.contains("CAP_MKNOD"));
    // The filter knows of the capability that was added.
    let allowed = |spec: &Value, name: &str| {
        let rules = spec["linux"]["seccomp"]["syscalls"].as_array().unwrap();
        let rule = rules.iter().find(|rule| rule["names"].as_array().unwrap().contains(&json!(name)));
        rule.is_some_and(|rule| rule["action"] == "SCMP_ACT_ALLOW")
    };
    assert!(allowed(&spec, "kcmp") && !allowed(&emit(&sh(), &ContainerRequest::default()).json, "kcmp"));

    let none =
        ContainerRequest { pids_limit: Some("-1".parse().unwrap()), memory: Some("0".parse().unwrap()), ..request };
    let resources = emit(&sh(), &none).json["linux"]["resources"].clone();
    assert!(resources.get("pids").is_none() && resources.get("memory").is_none());
}

#[test]
fn the_last_limit_of_a_resource_counts() {
    let limits = json!({"ulimits": ["nofile=5", "core=0", "nofile=1:2", "nofile=3:4", "core=7"]});
    let spec = emit(&sh(), &ContainerRequest { settings: settings(limits), ..ContainerRequest::default() }).json;
    let expected =
        json!([{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 4}, {"type": "RLIMIT_CORE", "soft": 7, "hard": 7}]);
    assert_eq!(spec["process"]["rlimits"], expected);
}

#[test]
fn a_mount_at_dev_is_not_covered() {
    let places = |volumes: &[&str], tmpfs: &[&str]| {
        let volumes = volumes.iter().map(|text| text.parse().unwrap()).collect();
        let tmpfs = tmpfs.iter().map(|text| text.parse().unwrap()).collect();
        let spec = emit(&sh(), &ContainerRequest { volumes, tmpfs, ..ContainerRequest::default() }).json;
        let mounts = spec["mounts"].as_array().unwrap().iter();
        let mut places: Vec<_> = mounts.map(|mount| mount["destination"].as_str().unwrap().to_owned()).collect();
        places.retain(|place| place.starts_with("/dev"));
        places
    };
    assert_eq!(places(&["/dev:/dev"], &[]), ["/dev"]);
    assert_eq!(places(&["/x:/dev/x"], &["/dev"]), ["/dev", "/dev/x"]);
    assert_eq!(places(&["/x:/dev/shm"], &[]), ["/dev", "/dev/pts", "/dev/mqueue", "/dev/shm"]);
}

#[test]
fn the_last_tmpfs_of_a_place_counts() {
    let tmpfs = ["/m:size=1m", "/n", "/m/:size=2m"].map(|text| text.parse().unwrap()).to_vec();
    let spec = emit(&sh(), &ContainerRequest { tmpfs, ..ContainerRequest::default() }).json;
    let options = spec["mounts"].to_string();
    assert!(options.contains("size=2m") && !options.contains("size=1m"), "{options}");
}

#[test]
fn labels_are_a_matter_of_selinux() {
    let request = ContainerRequest { volumes: vec!["/a:/b:z".parse().unwrap()], ..ContainerRequest::default() };
    assert_eq!(emit(&sh(), &request).warnings, [] as [&str; 0]);
    let warnings = emit_on(&Host { selinux: true, ..host() }, &sh(), &request).warnings;
    assert!(warnings[0].starts_with("the SELinux labels of /a are unchanged"), "{warnings:?}");
}

#[test]
fn limits_that_cannot_be_raised_are_lowered() {
    let request = ContainerRequest {
        settings: settings(json!({"ulimits": ["nofile=1024:8192", "memlock=-1", "core=0"]})),
        ..ContainerRequest::default()
    };
    let limits = BTreeMap::from([("nofile".into(), 4096), ("memlock".into(), u64::MAX), ("core".into(), 5)]);
    let mut host = Host { limits, ..host() };
    let hard = |host: &Host| {
        let Emitted { json: spec, warnings } = emit_on(host, &sh(), &request);
        (spec["process"]["rlimits"][0]["hard"].as_u64().unwrap(), warnings)
    };
    assert_eq!(hard(&host), (8192, Vec::new()));
    host.capabilities = Some(!(1 << 24));
    let warning = "--ulimit nofile=1024:8192 is above what this user may set; the container gets nofile=1024:4096";
    assert_eq!(hard(&host), (4096, vec![warning.to_owned()]));
}

#[test]
fn seccomp_by_profile() {
    let text = r#"{"defaultAction": "SCMP_ACT_LOG"}"#;
    let mut host = Host { seccomp: Some(text.into()), ..host() };
    let action = |host: &Host, seccomp: Seccomp, privileged| {
        let emitted = emit_on(host, &sh(), &ContainerRequest { seccomp, privileged, ..ContainerRequest::default() });
        (emitted.json["linux"]["seccomp"]["defaultAction"].as_str().map(str::to_owned), emitted.warnings.join(";"))
    };
    let some = |action: &str| (Some(action.to_owned()), String::new());
    assert_eq!(action(&host, Seccomp::Default, false), some("SCMP_ACT_LOG"));
    assert_eq!(action(&host, Seccomp::Default, true), (None, String::new()));
    assert_eq!(action(&host, Seccomp::Unconfined, false), (None, String::new()));
    let allow = Seccomp::Profile { name: "f".into(), text: text.replace("LOG", "ALLOW") };
    assert_eq!(action(&host, allow.clone(), true), some("SCMP_ACT_ALLOW"));
    assert_eq!(action(&host, allow, false), some("SCMP_ACT_ALLOW"));
    host.seccomp = Some("{".into());
    let (own, warning) = action(&host, Seccomp::Default, false);
    assert_eq!(own.unwrap(), "SCMP_ACT_ERRNO");
    assert!(warning.starts_with("this machine's seccomp profile is not used: not a seccomp profile: EOF"), "{warning}");
    // The architecture is the kernel's, where that is known.
    let architectures = |host: &Host| {
        emit_on(host, &sh(), &ContainerRequest::default()).json["linux"]["seccomp"]["architectures"].clone()
    };
    host.seccomp = None;
    assert_eq!(architectures(&host), json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]));
    host.architecture = Some("arm64".into());
    assert_eq!(architectures(&host), json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]));
}

#[test]
fn volumes_of_the_image_are_seeded_directories() {
    let config = image(json!({"Cmd": ["sh"], "Volumes": {"/data": {}, "/var/lib//x/": {}, "/mine": {}}}));
    let mut warnings = Vec::new();
    assert_eq!(image_volumes(&config, &mut warnings), ["/data", "/mine", "/var/lib/x"]);
    let volumes = ["/data", "/mine", "/var/lib/x"].map(|place| (place.to_owned(), format!("/copies{place}")));
    let host = Host { volumes: BTreeMap::from(volumes), ..host() };
    let request = ContainerRequest {
        volumes: vec!["/home/me:/mine:ro".parse().unwrap()],
        tmpfs: vec!["/var/lib/x".parse().unwrap()],
        ..ContainerRequest::default()
    };
    let Emitted { json: spec, warnings } = emit_on(&host, &config, &request);
    let copy = json!({"destination": "/data", "type": "bind", "source": "/copies/data", "options": ["rbind", "rprivate", "rw"]});
    assert_eq!(mount(&spec, "/data"), Some(&copy));
    assert_eq!(mount(&spec, "/mine").unwrap()["source"], "/home/me");
    assert_eq!(mount(&spec, "/var/lib/x").unwrap()["type"], "tmpfs");
    assert_eq!(warnings, [] as [&str; 0]);

    let inside = ContainerRequest { tmpfs: vec!["/data".parse().unwrap()], ..request.clone() };
    let deep = image(json!({"Cmd": ["sh"], "Volumes": {"/data/deep": {}, "/database": {}}}));
    let Emitted { json: spec, warnings } = emit(&deep, &inside);
    assert!(mount(&spec, "/data/deep").is_none());
    assert_eq!(warnings, ["the image's volume /data/deep is skipped: it is inside the mount at /data"]);

    let bare = Emitted { ..emit(&config, &request) };
    assert!(mount(&bare.json, "/data").is_none() && bare.warnings.is_empty());
    let read_only = emit(&config, &ContainerRequest { read_only: true, ..request });
    let warning = "the image has volumes at /data, which are read-only: give each a directory with -v";
    assert_eq!(read_only.warnings, [warning]);
}

#[test]
fn files_made_for_the_container_win_over_the_hosts() {
    let files = [("/etc/hosts", "/made/hosts"), ("/etc/hostname", "/made/hostname")];
    let host = Host {
        files: files.map(|(place, file)| (place.to_owned(), file.to_owned())).into(),
        network_files: shared(&["/etc/hosts", "/etc/resolv.conf"]),
        ..host()
    };
    let etc = |network: &str, read_only: bool| {
        let request = ContainerRequest {
            read_only,
            settings: settings(json!({"network": network})),
            volumes: vec!["/x:/etc/hostname".parse().unwrap()],
            ..ContainerRequest::default()
        };
        let spec = emit_on(&host, &sh(), &request).json;
        let mounts = spec["mounts"].as_array().unwrap().iter();
        let etc = mounts.filter(|mount| mount["destination"].as_str().unwrap().starts_with("/etc"));
        etc.map(|mount| format!("{} {}", mount["source"].as_str().unwrap(), mount["options"].as_array().unwrap().len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(etc("private", false), ["/x 2", "/made/hosts 2"]);
    assert_eq!(etc("host", false), ["/x 2", "/made/hosts 2", "/etc/resolv.conf 3"]);
    // A volume is as the user says, in a read-only container, too.
    assert_eq!(etc("private", true), ["/x 2", "/made/hosts 3"]);
}

#[test]
fn home_is_the_accounts() {
    let passwd = "root:x:0:0::/root:/bin/sh\nme:x:5:5::/home/me:/bin/sh\nodd:x:6:6::home:/bin/sh\n";
    let host = Host { users: Some(UserDatabase { passwd: passwd.into(), group: String::new() }), ..host() };
    let home = |user: &str, env: &[&str]| {
        let env = env.iter().map(|text| text.parse().unwrap()).collect();
        let spec =
            emit_on(&host, &sh(), &ContainerRequest { user: Some(user.into()), env, ..ContainerRequest::default() })
                .json;
        let env = spec["process"]["env"].as_array().unwrap().clone();
        env.iter().find_map(|entry| entry.as_str().unwrap().strip_prefix("HOME=")).unwrap().to_owned()
    };
    assert_eq!(home("me", &[]), "/home/me");
    assert_eq!(home("0", &[]), "/root");
    assert_eq!(home("7", &[]), "/");
    assert_eq!(home("odd", &[]), "/");
    assert_eq!(home("me", &["HOME=/x"]), "/x");
    assert!(!emit(&sh(), &ContainerRequest::default()).json["process"]["env"].to_string().contains("HOME="));
}
