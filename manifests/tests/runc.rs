//! Specs in the hands of runc (as root) and of the runtime-spec's own JSON schema.
//!
//! Needs, from Debian: `runc`, `busybox-static`, `python3-jsonschema`, `golang-github-opencontainers-specs-dev`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's own set-up fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ociforge_manifests::runtime::{Emitted, Host, Request, Settings, Users, runtime_spec};
use ociforge_manifests::{Config, Document};
use serde_json::{Value, json};

const SCHEMA: &str = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";

/// A bundle in a directory of its own, removed at the end.
struct Bundle {
    directory: PathBuf,
    host: Host,
}

impl Bundle {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("ociforge-{name}-{}", std::process::id()));
        let root = directory.join("rootfs");
        for place in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(place)).unwrap();
        }
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for applet in ["sh", "id", "test", "pwd", "cat", "hostname", "grep", "ls", "touch", "readlink"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let host = Host {
            root: root.to_str().unwrap().to_owned(),
            cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
            ..Host::default()
        };
        Self { directory, host }
    }

    /// A hook in the place of NVIDIA's that writes down what it is given.
    fn recording_hook(&mut self) -> PathBuf {
        let (hook, record) = (self.directory.join("hook"), self.directory.join("record"));
        fs::create_dir(&record).unwrap();
        let to = record.display();
        let script =
            format!("#!/bin/sh\ncat >{to}/stdin\nprintf '%s\\n' \"$@\" >{to}/args\nenv >{to}/env\npwd >{to}/cwd\n");
        fs::write(&hook, script).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
        self.host.nvidia_hook = Some(hook.to_str().unwrap().to_owned());
        record
    }

    /// The command that runs the container, as words.
    fn command(&self, config: Value, request: &Request) -> Vec<String> {
        fs::write(self.directory.join("config.json"), emit(config, request, &self.host).bytes()).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (state, bundle) = (text(&self.directory.join("state")), text(&self.directory));
        let id = text(Path::new(self.directory.file_name().unwrap()));
        ["runc", "--root", &state, "run", "--bundle", &bundle, &id].map(str::to_owned).into()
    }

    fn run(&self, config: Value, request: &Request) -> Output {
        let words = self.command(config, request);
        Command::new(&words[0]).args(&words[1..]).output().expect("runc is installed")
    }

    fn prints(&self, config: Value, request: &Request) -> String {
        let output = self.run(config, request);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn emit(config: Value, request: &Request, host: &Host) -> Emitted {
    let json = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}, "config": config});
    let config = Document::<Config>::from_json(json).unwrap();
    runtime_spec(&config, &BTreeMap::new(), request, host).unwrap()
}

fn shell(script: &str) -> Value {
    json!({"Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/bin", "A=b c"], "WorkingDir": "/tmp"})
}

fn settings(json: Value) -> Settings {
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_private_container_runs() {
    let bundle = Bundle::new("private");
    let request = Request {
        env: vec!["X=1".parse().unwrap()],
        hostname: Some("train".parse().unwrap()),
        settings: settings(json!({"shm-size": "1m", "cpuset-cpus": "0", "ulimits": ["nofile=100:200"]})),
        ..Request::default()
    };
    let script = "pwd; echo $A $X; hostname; ls /sys/class/net; grep shm /proc/mounts; ulimit -n; ulimit -Hn; \
                  grep Cpus_allowed_list /proc/self/status; grep CapEff /proc/self/status; touch /written; echo x >/dev/null";
    let text = bundle.prints(shell(script), &request);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..4], ["/tmp", "b c 1", "train", "lo"], "{text}");
    assert!(lines[4].contains("/dev/shm tmpfs") && lines[4].contains("size=1024k"), "{text}");
    assert_eq!(lines[5..], ["100", "200", "Cpus_allowed_list:\t0", "CapEff:\t00000000a80425fb"], "{text}");
    let read_only = Request { read_only: true, ..Request::default() };
    assert!(!bundle.run(shell("touch /again"), &read_only).status.success());
    assert_eq!(bundle.run(shell("exit 42"), &Request::default()).status.code(), Some(42));
}

#[test]
fn the_host_is_shared_where_that_is_asked_for() {
    let mut bundle = Bundle::new("shared");
    bundle.host.network_files = vec!["/etc/hosts".into()];
    bundle.host.directory = Some(bundle.directory.to_str().unwrap().to_owned());
    fs::create_dir_all(bundle.directory.join("data")).unwrap();
    fs::write(bundle.directory.join("data/file"), "from the host\n").unwrap();
    let request = Request {
        settings: settings(json!({"ipc": "host", "network": "host"})),
        volumes: vec!["data:data:ro".parse().unwrap()],
        ..Request::default()
    };
    let script = "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; cat /data/file; touch /data/x || echo ro; \
                  cat /etc/hosts";
    let text = bundle.prints(shell(script), &request);
    let namespace = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    let expected = format!("{}\n{}\nfrom the host\nro\n{hosts}", namespace("net"), namespace("ipc"));
    assert_eq!(text, expected);
}

#[test]
fn the_hook_is_called_as_nvidias_needs_it() {
    let mut bundle = Bundle::new("hook");
    let record = bundle.recording_hook();
    let request = Request {
        settings: settings(json!({"gpus": "device=0,1,capabilities=compute,utility", "network": "host"})),
        ..Request::default()
    };
    let text = bundle.prints(shell("echo $NVIDIA_VISIBLE_DEVICES; echo $NVIDIA_DRIVER_CAPABILITIES"), &request);
    assert_eq!(text, "0,1\ncompute,utility\n");

    let read = |name: &str| fs::read_to_string(record.join(name)).unwrap();
    let state: Value = serde_json::from_str(&read("stdin")).unwrap();
    assert_eq!(state["bundle"], bundle.directory.to_str().unwrap());
    assert!(state["pid"].as_u64().unwrap() > 0);
    assert_eq!(read("args"), "prestart\n");
    assert!(read("env").contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"));
    // What the hook reads next: the bundle's config.json, with an absolute root.
    let config = fs::read(bundle.directory.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert!(Path::new(config["root"]["path"].as_str().unwrap()).is_absolute());
    assert!(config["process"]["env"].as_array().unwrap().iter().all(|entry| entry.as_str().unwrap().contains('=')));
}

#[test]
fn a_terminal_is_one() {
    let bundle = Bundle::new("terminal");
    let request = Request { tty: true, ..Request::default() };
    let command = bundle.command(shell("test -t 0 && test -t 1 && echo $TERM"), &request).join(" ");
    // An input that stays open: script(1) would put its end into the text, before or after.
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().expect("script is installed");
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "xterm\r\n");
}

#[test]
fn a_hook_that_fails_ends_the_container() {
    let mut bundle = Bundle::new("failing");
    bundle.host.nvidia_hook = Some("/bin/false".into());
    let request = Request { settings: settings(json!({"gpus": "all"})), ..Request::default() };
    let output = bundle.run(shell("echo started"), &request);
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn users_are_who_they_should_be() {
    let mut bundle = Bundle::new("users");
    bundle.host.users =
        Some(Users { passwd: "me:x:1000:100::/:/bin/sh\n".into(), group: "video:x:44:me\nusers:x:100:\n".into() });
    let id = |user: &str| {
        let request = Request { user: Some(user.into()), ..Request::default() };
        bundle.prints(shell("echo $(id -u) $(id -g) $(id -G)"), &request)
    };
    assert_eq!(id("me"), "1000 100 100 44\n");
    assert_eq!(id("1000:7"), "1000 7 7\n");
    assert_eq!(id("0"), "0 0 0\n");
}

#[test]
fn every_kind_of_spec_keeps_to_the_schema() {
    let check = "import json, sys\nfrom pathlib import Path\nimport jsonschema\n\
        top = Path(sys.argv[1])\nschema = json.loads((top / 'config-schema.json').read_text())\n\
        resolver = jsonschema.RefResolver((top / 'config-schema.json').as_uri(), schema)\n\
        validator = jsonschema.validators.validator_for(schema)(schema, resolver=resolver)\n\
        errors = [e.message for spec in json.load(open(sys.argv[2])) for e in validator.iter_errors(spec)]\n\
        print('\\n'.join(errors)); sys.exit(bool(errors))\n";
    let mut host = Host { network_files: vec!["/etc/hosts".into()], ..Host::default() };
    let mut specs = Vec::new();
    for given in [
        json!({}),
        json!({"gpus": "all", "shm-size": "64g", "ipc": "host", "network": "host", "cpuset-cpus": "0-31"}),
        json!({"gpus": "device=GPU-a,capabilities=utility", "ulimits": ["memlock=-1", "nofile=1024:2048"]}),
        json!({"ipc": "none", "shm-size": "1g"}),
    ] {
        let request = Request {
            settings: settings(given),
            volumes: vec!["/a:/b:ro".parse().unwrap()],
            hostname: Some("h".parse().unwrap()),
            tty: true,
            read_only: true,
            ..Request::default()
        };
        host.cgroup_v2 = !host.cgroup_v2;
        let image = json!({"Cmd": ["sh"], "User": "5:6", "Labels": {"a": "b"}, "ExposedPorts": {"1/tcp": {}}});
        specs.extend([emit(image.clone(), &request, &host).json, emit(image, &Request::default(), &host).json]);
    }
    let validate = |specs: &[Value]| {
        let file = std::env::temp_dir().join(format!("ociforge-specs-{}.json", std::process::id()));
        fs::write(&file, json!(specs).to_string()).unwrap();
        let output = Command::new("/usr/bin/python3").args(["-W", "ignore", "-c", check, SCHEMA]).arg(&file).output();
        fs::remove_file(&file).unwrap();
        output.expect("python3 is installed")
    };
    let output = validate(&specs);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    // The schema is really looked at.
    specs[0]["process"]["cwd"] = json!(1);
    let output = validate(&specs);
    assert!(!output.status.success() && text(&output.stdout).contains("is not of type 'string'"), "{output:?}");
}
