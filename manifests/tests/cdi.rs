//! CDI in the hands of its own schema, of the runtime-spec's, and of runc (as root).
//!
//! Needs, from Debian: `runc`, `busybox-static`, `python3-jsonschema`, `golang-github-opencontainers-specs-dev`,
//! `golang-github-container-orchestrated-devices-container-device-interface-dev`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's own set-up fails by panicking")]

#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ociforge_manifests::runtime::cdi::{CdiFile, CdiRegistry, DeviceFacts, DeviceNodeKind};
use ociforge_manifests::runtime::{ContainerRequest, Emitted, Host, runtime_spec};
use ociforge_manifests::{Config, Document};
use program::write_program;
use serde_json::{Value, json};

const CDI: &str = "/usr/share/gocode/src/github.com/container-orchestrated-devices/container-device-interface/schema";
const RUNTIME: &str = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema/config-schema.json";

/// As nvidia-ctk writes it.
const NVIDIA: &str = include_str!("cdi/nvidia.yaml");

/// Prints for each text of a list whether it is JSON that keeps to the schema.
const VALIDATE: &str = r"
import json, pathlib, sys, jsonschema
path = pathlib.Path(sys.argv[1])
schema = json.loads(path.read_text())
validator = jsonschema.validators.validator_for(schema)(schema, resolver=jsonschema.RefResolver(path.as_uri(), schema))
for text in json.load(open(sys.argv[2])):
    try:
        print('bad' if list(validator.iter_errors(json.loads(text))) else 'good')
    except ValueError:
        print('bad')
";

/// Whether each text keeps to the schema.
fn validate(name: &str, schema: &str, texts: &[String]) -> Vec<bool> {
    let directory = Directory::new(name);
    let file = directory.0.join("texts.json");
    fs::write(&file, json!(texts).to_string()).unwrap();
    let output = Command::new("/usr/bin/python3").args(["-W", "ignore", "-c", VALIDATE, schema]).arg(&file).output();
    let output = output.expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(|line| line == "good").collect();
    assert_eq!(answers.len(), texts.len());
    answers
}

/// A directory of its own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("ociforge-cdi-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self(directory)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load(path: &str, text: &str) -> CdiRegistry {
    let content = Ok(text.as_bytes().to_vec());
    CdiRegistry::load(vec![CdiFile { path: path.into(), priority: 0, content }])
}

/// A document with one device and these edits of the file.
fn with(edits: &Value) -> String {
    let device = json!({"name": "a", "containerEdits": {"env": ["A=1"]}});
    json!({"cdiVersion": "1.1.0", "kind": "v.com/x", "devices": [device], "containerEdits": edits}).to_string()
}

/// The loader refuses whatever CDI's schema refuses, but for texts that are written as numbers, which CDI's library takes,
/// too. Where it refuses more, that is meant; the schema says little but types, and nothing of the edits of the file (as
/// opposed to a device's).
#[test]
fn the_loader_agrees_with_cdis_schema() {
    let device = |device: Value| json!({"cdiVersion": "0.5.0", "kind": "v.com/x", "devices": [device]}).to_string();
    let edits = |edits: Value| device(json!({"name": "a", "containerEdits": edits}));
    let mut cases: Vec<(String, bool)> = Vec::new();
    for (name, good) in
        [("good/minimal", true), ("good/spec-example", true), ("bad/empty", false), ("bad/explicit-empty", false)]
    {
        let text = fs::read_to_string(format!("{CDI}/testdata/{name}.json"));
        cases.push((text.expect("CDI's library is installed"), good));
    }
    cases.push((
        edits(json!({"env": ["A=1"], "deviceNodes": [{"path": "/dev/a", "uid": 1, "gid": 4_294_967_295_u32}]})),
        true,
    ));
    for mutation in [
        json!({"deviceNodes": {}}),
        json!({"deviceNodes": [{}]}),
        json!({"deviceNodes": [{"path": "/dev/a", "major": "1"}]}),
        json!({"deviceNodes": [{"path": "/dev/a", "uid": -1}]}),
        json!({"deviceNodes": [{"path": "/dev/a", "gid": 4_294_967_296_u64}]}),
        json!({"deviceNodes": [{"path": "/dev/a", "type": 1}]}),
        json!({"deviceNodes": [{"path": "/dev/a", "permissions": 7}]}),
        json!({"deviceNodes": [{"path": ["/dev/a"]}]}),
        json!({"mounts": [{"hostPath": "/a"}]}),
        json!({"mounts": [{"containerPath": "/a"}]}),
        json!({"mounts": [{"hostPath": "/a", "containerPath": "/a", "options": "ro"}]}),
        json!({"mounts": [{"hostPath": "/a", "containerPath": "/a", "options": [{}]}]}),
        json!({"hooks": [{"hookName": "prestart"}]}),
        json!({"hooks": [{"path": "/a"}]}),
        json!({"hooks": [{"hookName": "prestart", "path": "/a", "args": "x"}]}),
        json!({"hooks": [{"hookName": "prestart", "path": "/a", "timeout": "1"}]}),
        json!({"env": "A=1"}),
        json!([]),
    ] {
        cases.push((edits(mutation), false));
    }
    cases.push((device(json!({"name": "a"})), false));
    cases.push((device(json!({"containerEdits": {"env": ["A=1"]}})), false));
    cases.push((device(json!(1)), false));
    let (texts, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let ours: Vec<_> = texts.iter().map(|text| load("a.json", text).names().next().is_some()).collect();
    let schema = validate("types", &format!("{CDI}/schema.json"), &texts);
    for ((text, expected), (ours, schema)) in texts.iter().zip(expected).zip(ours.into_iter().zip(schema)) {
        assert_eq!((ours, schema), (expected, expected), "{text}");
    }

    let stricter = [
        json!({"cdiVersion": "0.5.0", "kind": "v.com/x", "devices": []}).to_string(),
        json!({"cdiVersion": "9.0.0", "kind": "v.com/x", "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}]}).to_string(),
        json!({"cdiVersion": "0.4.0", "kind": "v.com/x", "devices": [{"name": "0", "containerEdits": {"env": ["A=1"]}}]}).to_string(),
        json!({"cdiVersion": "0.5.0", "kind": "x", "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}]}).to_string(),
        device(json!({"name": "", "containerEdits": {"env": ["A=1"]}})),
        device(json!({"name": "a", "containerEdits": {}})),
        edits(json!({"unknown": 1})),
        edits(json!({"env": [1]})),
        edits(json!({"env": ["A"]})),
        edits(json!({"deviceNodes": [{"path": "/dev/a", "type": "x"}]})),
        edits(json!({"hooks": [{"hookName": "later", "path": "/a"}]})),
        with(&json!({"deviceNodes": [{}]})),
        with(&json!({"intelRdt": {"closID": ".."}})),
        with(&json!({"netDevices": [{"hostInterfaceName": "", "name": "a"}]})),
    ];
    for (text, schema) in stricter.iter().zip(validate("stricter", &format!("{CDI}/schema.json"), &stricter)) {
        assert!(schema && load("a.json", text).names().next().is_none(), "{text}");
    }
}

/// The nodes that stand for NVIDIA's, as on every Linux.
fn nodes() -> BTreeMap<String, DeviceFacts> {
    let nodes = [("/dev/null", 3), ("/dev/zero", 5), ("/dev/full", 7), ("/dev/random", 8)];
    let facts = |minor| DeviceFacts { kind: DeviceNodeKind::Char, major: 1, minor, mode: 0o666 };
    nodes.into_iter().map(|(path, minor)| (path.to_owned(), facts(minor))).collect()
}

fn emit(text: &str, root: &Path, request: &ContainerRequest, script: &str) -> Emitted {
    let host = Host {
        root: root.to_str().unwrap().to_owned(),
        cdi: load("/etc/cdi/nvidia.yaml", text),
        devices: nodes(),
        driver: Some("535.104.05".parse().unwrap()),
        cgroup_v2: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
        ..Host::default()
    };
    assert_eq!(host.cdi.left_out(), []);
    let json = json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}, "config": {
        "Cmd": ["/bin/sh", "-c", script], "Env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_CUDA=cuda>=9.0"],
    }});
    let config = Document::<Config>::from_json(json).unwrap();
    runtime_spec(&config, &BTreeMap::new(), request, &host).unwrap()
}

fn gpus(text: &str) -> ContainerRequest {
    let mut request = ContainerRequest::default();
    request.settings.gpus = Some(text.parse().unwrap());
    request
}

/// What NVIDIA's file adds to a spec, and nothing else: the spec with GPUs against the one without.
#[test]
fn nvidias_file_gives_the_expected_spec() {
    let root = Path::new("/rootfs");
    let Emitted { json: mut spec, warnings } = emit(NVIDIA, root, &gpus("device=0,1"), "true");
    assert_eq!(warnings, [] as [&str; 0]);
    assert_eq!(validate("runtime", RUNTIME, &[spec.to_string(), json!({"ociVersion": 1}).to_string()]), [true, false]);

    let golden: Value = serde_json::from_str(include_str!("cdi/nvidia-gpus-0-1.json")).unwrap();
    let plain = emit(NVIDIA, root, &ContainerRequest::default(), "true").json;
    let list = |spec: &Value, place: &str| spec.pointer(place).unwrap().as_array().unwrap().clone();
    let (rules, before) = (list(&spec, "/linux/resources/devices"), list(&plain, "/linux/resources/devices"));
    assert_eq!(rules[..before.len()], before);
    assert_eq!(json!(rules[before.len()..]), golden["rules"]);
    let (mounts, before) = (list(&spec, "/mounts"), list(&plain, "/mounts"));
    assert!(mounts.is_sorted_by_key(|mount| mount["destination"].as_str().unwrap().matches('/').count()));
    let (kept, added): (Vec<_>, Vec<_>) = mounts.into_iter().partition(|mount| before.contains(mount));
    assert_eq!((kept.len(), json!(added)), (before.len(), golden["mounts"].clone()));
    assert_eq!(spec["linux"]["devices"], golden["devices"]);
    assert_eq!(spec["hooks"], golden["hooks"]);
    assert_eq!(spec["process"]["env"], golden["env"]);

    spec["process"]["env"] = plain["process"]["env"].clone();
    spec["mounts"] = plain["mounts"].clone();
    spec["linux"]["resources"] = plain["linux"]["resources"].clone();
    spec["linux"].as_object_mut().unwrap().remove("devices");
    spec.as_object_mut().unwrap().remove("hooks");
    assert_eq!(spec, plain);
}

/// A hook in the place of NVIDIA's that writes down each call.
fn recording_hook(directory: &Path) -> PathBuf {
    let (hook, to) = (directory.join("hook"), directory.display());
    let script = format!(
        "#!/bin/sh\nn=$(ls {to}/calls | wc -l)\nmkdir {to}/calls/$n\ncat >{to}/calls/$n/stdin\n\
         printf '%s\\n' \"$@\" >{to}/calls/$n/args\nenv >{to}/calls/$n/env\npwd >{to}/calls/$n/cwd\n"
    );
    fs::create_dir(directory.join("calls")).unwrap();
    write_program(&hook, script);
    hook
}

/// A bundle whose root filesystem has a shell, and that filesystem.
fn busybox(name: &str) -> (Directory, PathBuf) {
    let bundle = Directory::new(name);
    let root = bundle.0.join("rootfs");
    for place in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(place)).unwrap();
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in ["sh", "stat", "cat", "head", "od", "touch", "grep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    (bundle, root)
}

/// What the container prints.
fn run(bundle: &Directory, spec: &Value) -> String {
    fs::write(bundle.0.join("config.json"), spec.to_string()).unwrap();
    let mut runc = Command::new("runc");
    runc.arg("--root").arg(bundle.0.join("state")).args(["run", "--bundle"]).arg(&bundle.0);
    let output = runc.arg(bundle.0.file_name().unwrap()).output().expect("runc is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn runc_makes_the_devices_and_calls_the_hooks() {
    let (bundle, root) = busybox("bundle");
    let hook = recording_hook(&bundle.0);
    let text = NVIDIA.replace("/usr/bin/nvidia-cdi-hook", hook.to_str().unwrap());
    let script = "stat -c '%n %t:%T %a %u' /dev/nvidia0 /dev/nvidiactl /dev/dri/card1; head -c 2 /dev/nvidia-uvm | od -An -tx1; \
                  echo x >/dev/nvidia0 || echo full; cat /nvidia-smi | head -n 1; \
                  cat /lib/x86_64-linux-gnu/libcuda.so.535.104.05; touch /nvidia-smi || echo ro; \
                  echo $NVIDIA_VISIBLE_DEVICES; grep -c nvidia-smi /proc/mounts";
    let Emitted { json, .. } = emit(&text, &root, &gpus("device=0"), script);
    let printed = run(&bundle, &json);
    let line = |file: &str| fs::read_to_string(file).unwrap().lines().next().unwrap().to_owned();
    assert_eq!(
        printed,
        format!(
            "/dev/nvidia0 1:7 666 0\n/dev/nvidiactl 1:3 666 0\n/dev/dri/card1 1:8 666 0\n 00 00\nfull\n{}\n{}\nro\nvoid\n1\n",
            line("/etc/passwd"),
            line("/etc/hostname")
        )
    );

    let read = |call: usize, name: &str| fs::read_to_string(bundle.0.join(format!("calls/{call}/{name}"))).unwrap();
    for (call, arguments) in [
        "create-symlinks\n--link\nlibcuda.so.1::/lib/x86_64-linux-gnu/libcuda.so\n",
        "enable-cuda-compat\n--host-driver-version=535.104.05\n",
        "update-ldcache\n--folder\n/lib/x86_64-linux-gnu\n",
        "disable-device-node-modification\n",
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(read(call, "args"), arguments);
        let state: Value = serde_json::from_str(&read(call, "stdin")).unwrap();
        assert_eq!((&state["bundle"], &state["status"]), (&json!(bundle.0), &json!("creating")), "{state}");
        assert!(state["pid"].as_u64().unwrap() > 0);
        let env = read(call, "env");
        assert!(env.contains("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"), "{env}");
        assert_eq!(env.contains("NVIDIA_CTK_DEBUG=false\n"), call < 3, "{env}");
    }
    assert_eq!(fs::read_dir(bundle.0.join("calls")).unwrap().count(), 4);
}
