//! The runtime-spec's own JSON schema.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use ociforge_manifests::runtime::{ContainerRequest, Host, IdMap, IdMappings, Seccomp};
use serde_json::{Value, json};

use crate::bundle::{emit, settings};

const SCHEMA: &str = "/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema";

const CHECK: &str = r"
import json, sys
from pathlib import Path
import jsonschema
top = Path(sys.argv[1])
schema = json.loads((top / 'config-schema.json').read_text())
resolver = jsonschema.RefResolver((top / 'config-schema.json').as_uri(), schema)
validator = jsonschema.validators.validator_for(schema)(schema, resolver=resolver)
errors = [e.message for spec in json.load(sys.stdin) for e in validator.iter_errors(spec)]
print('\n'.join(errors))
sys.exit(bool(errors))
";

fn validate(specs: &[Value]) -> Output {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-W", "ignore", "-c", CHECK, SCHEMA]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.stderr(Stdio::piped()).spawn().expect("python3 is installed");
    child.stdin.take().unwrap().write_all(json!(specs).to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// Panics with what the schema says against `spec`.
pub(crate) fn assert_valid(spec: &Value) {
    let output = validate(std::slice::from_ref(spec));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}\n{spec}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn every_kind_of_spec_keeps_to_the_schema() {
    let shared = BTreeMap::from([("/etc/hosts".to_owned(), "/etc/hosts".to_owned())]);
    let mut host = Host { network_files: shared, ..Host::default() };
    let mut specs = Vec::new();
    for given in [
        json!({}),
        json!({"gpus": "all", "shm-size": "64g", "ipc": "host", "network": "host", "cpuset-cpus": "0-31"}),
        json!({"gpus": "device=GPU-a,capabilities=utility", "ulimits": ["memlock=-1", "nofile=1024:2048"]}),
        json!({"ipc": "none", "shm-size": "1g"}),
    ] {
        let request = ContainerRequest {
            settings: settings(given),
            volumes: vec!["/a:/b:ro".parse().unwrap()],
            hostname: Some("h".parse().unwrap()),
            tty: true,
            read_only: true,
            ..ContainerRequest::default()
        };
        host.cgroup_v2 = !host.cgroup_v2;
        let image = json!({"Cmd": ["sh"], "User": "5:6", "Labels": {"a": "b"}, "ExposedPorts": {"1/tcp": {}}});
        specs
            .extend([emit(image.clone(), &request, &host).json, emit(image, &ContainerRequest::default(), &host).json]);
    }
    let maps = vec![IdMap { container: 0, host: 1000, size: 1 }, IdMap { container: 1, host: 100_000, size: 65_536 }];
    host.mappings = Some(IdMappings { uids: maps.clone(), gids: maps });
    host.volumes = BTreeMap::from([("/data".to_owned(), "/copy".to_owned())]);
    host.files = BTreeMap::from([("/etc/hostname".to_owned(), "/made/hostname".to_owned())]);
    for rootless in [false, true] {
        for edit in [
            (|_| {}) as fn(&mut ContainerRequest),
            |request| request.privileged = true,
            |request| request.seccomp = Seccomp::Unconfined,
            |request| request.cap_add = vec!["ALL".parse().unwrap()],
            |request| request.cap_drop = vec!["ALL".parse().unwrap()],
            |request| request.tmpfs = vec!["/run:size=64k,mode=1777".parse().unwrap()],
            |request| request.memory = Some("1g".parse().unwrap()),
            |request| request.pids_limit = Some("100".parse().unwrap()),
            |request| request.no_new_privileges = true,
            |request| request.settings = settings(json!({"ipc": "host", "network": "host", "cpuset-cpus": "0"})),
        ] {
            let mut request = ContainerRequest { rootless, ..ContainerRequest::default() };
            edit(&mut request);
            specs.push(emit(json!({"Cmd": ["sh"], "Volumes": {"/data": {}}}), &request, &host).json);
        }
    }
    for architecture in ["arm64", "386", "arm", "ppc64le", "s390x", "riscv64"] {
        host.architecture = Some(architecture.into());
        specs.push(emit(json!({"Cmd": ["sh"]}), &ContainerRequest::default(), &host).json);
    }
    let output = validate(&specs);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    // The schema is really looked at.
    specs[0]["process"]["cwd"] = json!(1);
    let output = validate(&specs);
    assert!(!output.status.success() && text(&output.stdout).contains("is not of type 'string'"), "{output:?}");
}
