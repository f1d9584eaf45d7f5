//! Edits, each by itself, on a small spec.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// A spec like those that the crate makes.
fn spec() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 1000, "gid": 0, "additionalGids": [44]}, "env": ["PATH=/bin", "A=1"]},
        "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/dev", "type": "tmpfs"},
            {"destination": "/dev/pts", "type": "devpts"},
            {"destination": "/data/deep", "type": "bind"},
        ],
        "linux": {"resources": {"devices": [{"allow": false, "access": "rwm"}]}},
    })
}

fn facts() -> BTreeMap<String, DeviceFacts> {
    let facts = |kind, major, minor, mode| DeviceFacts { kind, major, minor, mode };
    BTreeMap::from([
        ("/dev/gpu0".to_owned(), facts(DeviceNodeKind::Char, 195, 0, 0o20666)),
        ("/dev/disk".to_owned(), facts(DeviceNodeKind::Block, 8, 1, 0o660)),
        ("/dev/pipe".to_owned(), facts(DeviceNodeKind::Fifo, 0, 0, 0o600)),
        ("/dev/link".to_owned(), facts(DeviceNodeKind::Other, 0, 0, 0o777)),
    ])
}

/// The spec with these edits, and the warnings.
fn edit(edits: &Value, rootless: bool, volumes: Vec<&str>) -> Result<(Value, Vec<String>), CdiError> {
    let document = json!({
        "cdiVersion": "1.1.0", "kind": "v.com/x", "devices": [{"name": "a", "containerEdits": {"env": ["X=1"]}}],
        "containerEdits": edits,
    });
    let content = Ok(document.to_string().into_bytes());
    let registry = CdiRegistry::load(vec![CdiFile { path: "a.json".into(), priority: 0, content }]);
    assert_eq!(registry.left_out(), []);
    let edits = registry.resolve(["v.com/x=a"]).unwrap();
    let (mut json, mut warnings) = (spec(), Vec::new());
    apply(&edits, &mut json, &TargetContainer { devices: &facts(), rootless, volumes }, &mut warnings)?;
    Ok((json, warnings))
}

fn edited(edits: &Value) -> Value {
    edit(edits, false, Vec::new()).unwrap().0
}

#[test]
fn variables_replace_by_key() {
    let json = edited(&json!({"env": ["A=2", "B=3", "B=4", "AA=5", "C=x=y"]}));
    assert_eq!(json["process"]["env"], json!(["PATH=/bin", "A=2", "B=4", "AA=5", "C=x=y", "X=1"]));
}

#[test]
fn nodes_are_completed_from_the_host() {
    let node = |node: Value| {
        let json = match edit(&json!({"deviceNodes": [node]}), false, Vec::new()) {
            Ok((json, _)) => json,
            Err(error) => return error.to_string(),
        };
        let rules = json["linux"]["resources"]["devices"].as_array().unwrap()[1..].to_vec();
        format!("{} {}", json["linux"]["devices"], json!(rules)).replace('"', "")
    };
    for (given, expected) in [
        (
            json!({"path": "/dev/gpu0"}),
            "[{fileMode:438,major:195,minor:0,path:/dev/gpu0,type:c,uid:1000}] \
             [{access:rwm,allow:true,major:195,minor:0,type:c}]",
        ),
        (
            json!({"path": "/dev/x/../g", "hostPath": "/dev/gpu0", "fileMode": 0o640, "permissions": "r", "uid": 0, "gid": 7}),
            "[{fileMode:416,gid:7,major:195,minor:0,path:/dev/g,type:c,uid:0}] \
             [{access:r,allow:true,major:195,minor:0,type:c}]",
        ),
        (
            json!({"path": "/dev/disk", "type": "b"}),
            "[{fileMode:432,major:8,minor:1,path:/dev/disk,type:b,uid:1000}] \
             [{access:rwm,allow:true,major:8,minor:1,type:b}]",
        ),
        (json!({"path": "/dev/pipe"}), "[{fileMode:384,path:/dev/pipe,type:p,uid:1000}] []"),
        (json!({"path": "/dev/none", "type": "p"}), "[{path:/dev/none,type:p,uid:1000}] []"),
        (
            json!({"path": "/dev/none", "type": "c", "major": 5, "minor": 6}),
            "[{major:5,minor:6,path:/dev/none,type:c,uid:1000}] [{access:rwm,allow:true,major:5,minor:6,type:c}]",
        ),
        // runc does not know u, which is c
        (
            json!({"path": "/dev/none", "type": "u", "major": 5, "permissions": ""}),
            "[{major:5,minor:0,path:/dev/none,type:c,uid:1000}] [{access:rwm,allow:true,major:5,minor:0,type:c}]",
        ),
        (
            json!({"path": "/dev/gpu0", "type": "c", "major": 5, "permissions": "none"}),
            "[{fileMode:438,major:5,minor:0,path:/dev/gpu0,type:c,uid:1000}] []",
        ),
        (
            json!({"path": "/dev/link", "type": "c", "major": 5}),
            "[{major:5,minor:0,path:/dev/link,type:c,uid:1000}] [{access:rwm,allow:true,major:5,minor:0,type:c}]",
        ),
        (json!({"path": "/dev/none"}), "the CDI device needs the device node \"/dev/none\", which is not there"),
        (
            json!({"path": "/dev/none", "type": "c"}),
            "the CDI device needs the device node \"/dev/none\", which is not there",
        ),
        (
            json!({"path": "/dev/a", "hostPath": "/dev/link"}),
            "the CDI device needs the device node \"/dev/link\", which is not a device node",
        ),
        (
            json!({"path": "/dev/disk", "type": "c"}),
            "the CDI device needs the device node \"/dev/disk\", which is of another type than the CDI file says",
        ),
    ] {
        assert_eq!(node(given.clone()), expected, "{given}");
    }
    let json = edited(
        &json!({"deviceNodes": [{"path": "/dev/gpu0"}, {"path": "/dev/disk"}, {"path": "/dev/gpu0", "gid": 9}]}),
    );
    let places: Vec<_> = json["linux"]["devices"].as_array().unwrap().iter().map(|node| &node["path"]).collect();
    assert_eq!(places, ["/dev/disk", "/dev/gpu0"]);
    assert_eq!(json["linux"]["devices"][1]["gid"], 9);
}

#[test]
fn in_a_user_namespace_nodes_are_bind_mounts() {
    let nodes = json!({"deviceNodes": [{"path": "/dev/g", "hostPath": "/dev/gpu0"}, {"path": "/dev/disk"}]});
    let (json, _) = edit(&nodes, true, Vec::new()).unwrap();
    assert!(json["linux"].get("devices").is_none());
    assert_eq!(json["linux"]["resources"]["devices"].as_array().unwrap().len(), 1);
    let mounts = json["mounts"].as_array().unwrap();
    let bind = |to: &str, from: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["bind", "rprivate"]});
    assert_eq!(mounts[4..], [bind("/dev/g", "/dev/gpu0"), bind("/dev/disk", "/dev/disk")]);
    // What the file states does not help: there is nothing to bind.
    let stated = json!({"deviceNodes": [{"path": "/dev/none", "type": "c", "major": 5}]});
    assert!(matches!(edit(&stated, true, Vec::new()), Err(CdiError::Node { path, .. }) if path == "/dev/none"));
}

#[test]
fn mounts_replace_and_outer_ones_come_first() {
    let json = edited(&json!({"mounts": [
        {"hostPath": "/a", "containerPath": "/usr/lib/a.so", "options": ["ro", "bind"]},
        {"hostPath": "/b", "containerPath": "/dev/pts/"},
        {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs", "options": ["size=1m"]},
        {"hostPath": "/c", "containerPath": "/usr/lib/./a.so", "type": "none", "options": ["rbind"]},
    ]}));
    let mounts = json["mounts"].as_array().unwrap();
    let places: Vec<_> = mounts.iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    assert_eq!(places, ["/proc", "/dev", "/t", "/data/deep", "/dev/pts", "/usr/lib/a.so"]);
    assert_eq!(mounts[4], json!({"destination": "/dev/pts", "type": "bind", "source": "/b", "options": ["rbind"]}));
    assert_eq!(mounts[2], json!({"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]}));
    assert_eq!(
        mounts[5],
        json!({"destination": "/usr/lib/a.so", "type": "bind", "source": "/c", "options": ["rbind"]})
    );
}

/// As the library does, which sorts only what it has added mounts to.
#[test]
fn without_mounts_their_order_stays() {
    let json = edited(&json!({"env": ["A=1"]}));
    let places: Vec<_> = json["mounts"].as_array().unwrap().iter().map(|mount| &mount["destination"]).collect();
    assert_eq!(places, ["/proc", "/dev", "/dev/pts", "/data/deep"]);
    let unsorted = edited(&json!({"mounts": [{"hostPath": "/a", "containerPath": "b"}]}));
    assert_eq!(unsorted["mounts"][2]["destination"], "/b");
}

#[test]
fn volumes_in_the_way_are_told() {
    let edits = json!({
        "mounts": [{"hostPath": "/a", "containerPath": "/usr/lib/cuda"}],
        "deviceNodes": [{"path": "/dev/gpu0"}],
    });
    let told = |volume| edit(&edits, false, vec![volume]).unwrap().1.join("; ");
    for (volume, expected) in [
        ("/usr/lib", ""),
        ("/usr/lib/cuda-12", ""),
        ("/usr/lib/cuda", "the CDI device's mount takes the place of the volume at /usr/lib/cuda"),
        ("/usr/lib/cuda/x", "the volume at /usr/lib/cuda/x hides a part of the CDI device's mount at /usr/lib/cuda"),
        ("/dev", "the volume at /dev may hide the CDI device's node /dev/gpu0"),
        ("/dev/gpu0", "the volume at /dev/gpu0 may hide the CDI device's node /dev/gpu0"),
        ("/dev/gpu", ""),
    ] {
        assert_eq!(told(volume), expected);
    }
}

#[test]
fn hooks_get_a_path_to_find_programs() {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let json = edited(&json!({"hooks": [
        {"hookName": "createContainer", "path": "/h", "args": ["h", "1"]},
        {"hookName": "prestart", "path": "/h", "env": ["A=1"], "timeout": 5},
        {"hookName": "createContainer", "path": "/h", "env": ["PATH=/x"], "timeout": 0},
        {"hookName": "poststop", "path": "/h", "env": ["PATH=/x"], "timeout": -1},
    ]}));
    assert_eq!(
        json["hooks"],
        json!({
            "createContainer": [{"path": "/h", "args": ["h", "1"], "env": [path]}, {"path": "/h", "env": ["PATH=/x"]}],
            "prestart": [{"path": "/h", "env": ["A=1", path], "timeout": 5}],
            "poststop": [{"path": "/h", "env": ["PATH=/x"]}],
        })
    );
}

#[test]
fn groups_resource_control_and_network_devices() {
    let (json, warnings) =
        edit(&json!({"additionalGids": [0, 44, 7, 7], "intelRdt": {"closID": "x"}}), false, Vec::new()).unwrap();
    assert_eq!(json["process"]["user"]["additionalGids"], json!([44, 7]));
    assert_eq!(json["linux"]["intelRdt"], json!({"closID": "x"}));
    assert_eq!((&json["ociVersion"], warnings.len()), (&json!("1.0.2"), 0));
    for edits in [
        json!({"netDevices": [{"hostInterfaceName": "eth7", "name": "net0"}]}),
        json!({"intelRdt": {"closID": "x", "l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=5", "schemata": [], "enableMonitoring": true}}),
    ] {
        let (json, warnings) = edit(&edits, false, Vec::new()).unwrap();
        assert_eq!(json["ociVersion"], "1.3.0");
        assert_eq!(warnings, ["the CDI device needs a runtime that knows version 1.3.0 of the runtime spec"]);
        let shown = json["linux"].to_string();
        assert!(
            shown.contains(r#""netDevices":{"eth7":{"name":"net0"}}"#) || shown.contains(r#""schemata":[]"#),
            "{shown}"
        );
    }
}
