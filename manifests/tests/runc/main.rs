//! Specs in the hands of runc, as root and as somebody else, and of the runtime-spec's own JSON schema.
//!
//! Needs root, and from Debian: `runc`, `busybox-static`, `uidmap`, `python3`, `python3-jsonschema`,
//! `golang-github-opencontainers-specs-dev`, `golang-github-containers-common`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's own set-up fails by panicking")]

mod bundle;
#[path = "../support/program.rs"]
mod program;
mod rootless;
mod schema;
mod security;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ociforge_manifests::runtime::{ContainerRequest, UserDatabase};
use serde_json::{Value, json};

use bundle::{Bundle, settings, shell};

#[test]
fn a_private_container_runs() {
    let bundle = Bundle::new("private");
    let request = ContainerRequest {
        env: vec!["X=1".parse().unwrap()],
        hostname: Some("train".parse().unwrap()),
        settings: settings(json!({"shm-size": "1m", "cpuset-cpus": "0", "ulimits": ["nofile=100:200"]})),
        ..ContainerRequest::default()
    };
    let script = "pwd; echo $A $X; hostname; ls /sys/class/net; grep shm /proc/mounts; ulimit -n; ulimit -Hn; \
                  grep Cpus_allowed_list /proc/self/status; grep CapEff /proc/self/status; touch /written; echo x >/dev/null";
    let text = bundle.prints(shell(script), &request);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..4], ["/tmp", "b c 1", "train", "lo"], "{text}");
    assert!(lines[4].contains("/dev/shm tmpfs") && lines[4].contains("size=1024k"), "{text}");
    assert_eq!(lines[5..], ["100", "200", "Cpus_allowed_list:\t0", "CapEff:\t00000000a80425fb"], "{text}");
    let read_only = ContainerRequest { read_only: true, ..ContainerRequest::default() };
    assert!(!bundle.run(shell("touch /again"), &read_only).status.success());
    assert_eq!(bundle.run(shell("exit 42"), &ContainerRequest::default()).status.code(), Some(42));
}

#[test]
fn the_host_is_shared_where_that_is_asked_for() {
    let mut bundle = Bundle::new("shared");
    bundle.host.network_files = [("/etc/hosts".into(), "/etc/hosts".into())].into();
    bundle.host.directory = Some(bundle.directory.to_str().unwrap().to_owned());
    fs::create_dir_all(bundle.directory.join("data")).unwrap();
    fs::write(bundle.directory.join("data/file"), "from the host\n").unwrap();
    let request = ContainerRequest {
        settings: settings(json!({"ipc": "host", "network": "host"})),
        volumes: vec!["data:data:ro".parse().unwrap()],
        ..ContainerRequest::default()
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
    let request = ContainerRequest {
        settings: settings(json!({"gpus": "device=0,1,capabilities=compute,utility", "network": "host"})),
        ..ContainerRequest::default()
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
    let request = ContainerRequest { tty: true, ..ContainerRequest::default() };
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
    let request = ContainerRequest { settings: settings(json!({"gpus": "all"})), ..ContainerRequest::default() };
    let output = bundle.run(shell("echo started"), &request);
    assert!(!output.status.success() && output.stdout.is_empty());
}

#[test]
fn users_are_who_they_should_be() {
    let mut bundle = Bundle::new("users");
    bundle.host.users = Some(UserDatabase {
        passwd: "me:x:1000:100::/:/bin/sh\n".into(),
        group: "video:x:44:me\nusers:x:100:\n".into(),
    });
    let id = |user: &str| {
        let request = ContainerRequest { user: Some(user.into()), ..ContainerRequest::default() };
        bundle.prints(shell("echo $(id -u) $(id -g) $(id -G)"), &request)
    };
    assert_eq!(id("me"), "1000 100 100 44\n");
    assert_eq!(id("1000:7"), "1000 7 7\n");
    assert_eq!(id("0"), "0 0 0\n");
}
