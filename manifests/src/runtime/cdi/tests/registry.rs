//! Several files: their rank, conflicts, and names of devices.

use std::collections::BTreeMap;

use super::*;

fn file(path: &str, priority: usize, document: &Value) -> CdiFile {
    CdiFile { path: path.into(), priority, content: Ok(document.to_string().into_bytes()) }
}

/// A document of that kind whose devices set `FROM` to `mark`.
fn devices(kind: &str, names: &[&str], mark: &str) -> Value {
    let devices: Vec<_> = names
        .iter()
        .map(|name| json!({"name": name, "containerEdits": {"env": [format!("{}={mark}", name.to_uppercase())]}}))
        .collect();
    json!({"cdiVersion": "0.5.0", "kind": kind, "devices": devices, "containerEdits": {"env": [format!("FROM={mark}")]}})
}

fn env(registry: &CdiRegistry, names: &[&str]) -> String {
    registry.resolve(names.iter().copied()).map_or_else(|error| error.to_string(), |edits| edits.edits.env.join(" "))
}

#[test]
fn files_are_ranked_and_bad_ones_left_out() {
    let registry = CdiRegistry::load(vec![
        file("/etc/cdi/a.json", 0, &devices("v.com/x", &["a", "b", "c"], "low")),
        file("/etc/cdi/b.json", 0, &devices("v.com/x", &["c", "d"], "other")),
        file("/etc/cdi/c.yml", 0, &devices("v.com/x", &["e"], "yml")),
        file("/etc/cdi/README", 0, &json!(1)),
        file("/etc/cdi/d.JSON", 0, &json!(1)),
        file("/etc/cdi/bad.json", 0, &json!({})),
        CdiFile { path: "/etc/cdi/no.json".into(), priority: 0, content: Err("permission denied".into()) },
        file("/var/run/cdi/a.json", 1, &devices("v.com/x", &["b", "f"], "high")),
        file("/var/run/cdi/b.yaml", 1, &devices("w.com/y", &["a", "f"], "high")),
        file("/var/run/cdi/c.json", 1, &devices("v.com/x", &["f"], "again")),
    ]);
    assert_eq!(
        registry.left_out().iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "the CDI file /etc/cdi/c.yml is skipped: only .json and .yaml are read; rename it",
            "the CDI file /etc/cdi/bad.json is skipped: its cdiVersion \"\" is not supported",
            "the CDI file /etc/cdi/no.json is skipped: cannot read it: permission denied",
            "the CDI device v.com/x=c is skipped: /etc/cdi/a.json and /etc/cdi/b.json describe it",
            "the CDI device v.com/x=f is skipped: /var/run/cdi/a.json and /var/run/cdi/c.json describe it",
        ]
    );
    let files: Vec<_> = registry.files().map(|file| format!("{} {} {}", file.path, file.kind, file.devices)).collect();
    assert_eq!(
        files,
        [
            "/etc/cdi/a.json v.com/x 1",
            "/etc/cdi/b.json v.com/x 1",
            "/var/run/cdi/a.json v.com/x 1",
            "/var/run/cdi/b.yaml w.com/y 2",
            "/var/run/cdi/c.json v.com/x 0",
        ]
    );
    let names: Vec<_> = registry.names().collect();
    assert_eq!(names, ["v.com/x=a", "v.com/x=b", "v.com/x=d", "w.com/y=a", "w.com/y=f"]);
    assert_eq!(Vec::from_iter(registry.kinds()), ["v.com/x", "w.com/y"]);
    for (names, expected) in [
        (&[][..], ""),
        (&["v.com/x=a"], "FROM=low A=low"),
        (&["v.com/x=b"], "FROM=high B=high"),
        // the file's edits once, devices in the order of the request, each once
        (&["w.com/y=f", "w.com/y=a", "w.com/y=f"], "FROM=high F=high A=high"),
        (&["v.com/x=a", "w.com/y=a"], "FROM=low A=low FROM=high A=high"),
        (&["v.com/x=c", "v.com/x=a", "v.com/x=z"], "unresolvable CDI devices v.com/x=c, v.com/x=z"),
        (&["x"], "\"x\" is not the name of a CDI device"),
    ] {
        assert_eq!(env(&registry, names), expected, "{names:?}");
    }
}

/// A conflict below does not take a device away that a directory above describes.
#[test]
fn a_higher_priority_ends_a_conflict() {
    let registry = CdiRegistry::load(vec![
        file("0a.json", 0, &devices("v.com/x", &["a"], "0a")),
        file("0b.json", 0, &devices("v.com/x", &["a"], "0b")),
        file("1.json", 1, &devices("v.com/x", &["a"], "1")),
    ]);
    assert_eq!(env(&registry, &["v.com/x=a"]), "FROM=1 A=1");
    assert_eq!(registry.left_out(), []);
}

#[test]
fn who_asks_for_what_is_not_there_is_told_what_is() {
    let registry = CdiRegistry::load(vec![
        file("/etc/cdi/a.json", 0, &devices("nvidia.com/gpu", &["0", "1", "all"], "x")),
        file("/etc/cdi/b.yml", 0, &json!(1)),
    ]);
    let hint = |name: &str| registry.resolve([name]).unwrap_err().hint().unwrap();
    let rest = "CDI files describe devices of nvidia.com/gpu; the CDI file /etc/cdi/b.yml is skipped: only .json and \
        .yaml are read; rename it";
    assert_eq!(hint("nvidia.com/gpu=2"), format!("there are 2 GPUs, by the names 0, 1, all; {rest}"));
    assert_eq!(hint("nvidia.com/gpu=al"), format!("did you mean nvidia.com/gpu=all?; {rest}"));
    let uuids = "not by UUID (`nvidia-ctk cdi generate --device-name-strategy=uuid` does that)";
    assert_eq!(hint("nvidia.com/gpu=GPU-5a"), format!("there are 2 GPUs, by the names 0, 1, all, {uuids}; {rest}"));
    assert_eq!(hint("nvida.com/gpu=all"), format!("did you mean nvidia.com/gpu=all?; {rest}"));
    assert_eq!(hint("z.org/q=0"), rest);
    let none = CdiRegistry::default().resolve(["nvidia.com/gpu=0"]).unwrap_err();
    assert!(none.hint().unwrap().contains("nvidia-ctk cdi generate"));
    assert!(registry.resolve(["/dev/nvidia0"]).unwrap_err().hint().unwrap().contains("VENDOR/CLASS=NAME"));
}

#[test]
fn a_file_names_the_driver_that_it_was_made_for() {
    for (libraries, arguments, expected) in [
        (&["libcuda.so.550.54.15"][..], &[][..], Some("550.54.15")),
        (&["libnvidia-ml.so.1", "libnvidia-ml.so.535.104.05"], &[], Some("535.104.05")),
        (&["libcuda.so.1"], &["enable-cuda-compat", "--host-driver-version=560.35.03"], Some("560.35.03")),
        (&["libcuda.so.1.1", "libcuda.so", "libcudadebugger.so.550.54.15"], &["--host-driver-version="], None),
        (&[], &[], None),
    ] {
        let mount = |name: &&str| json!({"hostPath": format!("/lib/{name}"), "containerPath": "/a"});
        let edits = json!({
            "env": ["A=1"], "mounts": libraries.iter().map(mount).collect::<Vec<_>>(),
            "hooks": [{"hookName": "createContainer", "path": "/h", "args": arguments}],
        });
        let registry = CdiRegistry::load(vec![file("/etc/cdi/a.json", 0, &with(edits))]);
        let edits = registry.resolve(["vendor.com/device=a"]).unwrap();
        let loaded = "999.1".parse().unwrap();
        let stale = edits.stale(&BTreeMap::new(), &BTreeMap::new(), Some(&loaded), false);
        let found = stale.map(|stale| stale.drivers.unwrap().0.to_string());
        assert_eq!(found.as_deref(), expected, "{libraries:?}");
        assert_eq!(edits.stale(&BTreeMap::new(), &BTreeMap::new(), None, false), None);
    }
}

#[test]
fn a_gpu_is_meant_by_the_beginning_of_its_name() {
    let node = |names: &[&str], path: &str| {
        let device = |name: &&str| json!({"name": name, "containerEdits": {"deviceNodes": [{"path": path}]}});
        names.iter().map(device).collect::<Vec<_>>()
    };
    let gpus = [
        node(&["0", "GPU-5a4bc2d1-9e8f"], "/dev/nvidia0"),
        node(&["1", "GPU-5a77c2d1-9e8f"], "/dev/nvidia1"),
        node(&["1:0", "MIG-41b35146"], "/dev/nvidia-caps/nvidia-cap3"),
    ]
    .concat();
    let document = json!({"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": gpus});
    let registry = CdiRegistry::load(vec![file("/etc/cdi/a.json", 0, &document)]);
    let hint = |name: &str| registry.resolve([format!("nvidia.com/gpu={name}").as_str()]).unwrap_err().hint().unwrap();
    for (name, expected) in [
        ("GPU-5a4b", "did you mean nvidia.com/gpu=GPU-5a4bc2d1-9e8f?;"),
        ("gpu-5A77C2D1-9E8F", "did you mean nvidia.com/gpu=GPU-5a77c2d1-9e8f?;"),
        ("GPU-5a77c2d1-9e8e", "did you mean nvidia.com/gpu=GPU-5a77c2d1-9e8f?;"),
        ("GPU-5a", "GPU-5a is the beginning of several names;"),
        ("MIG-41b", "did you mean nvidia.com/gpu=MIG-41b35146?;"),
        ("7", "there are 3 GPUs, by the names 0, 1, 1:0, GPU-5a4bc2d1-9e8f, GPU-5a77c2d1-9e8f, MIG-41b35146;"),
        ("1:7", "there are 3 GPUs, by the names"),
        ("all", "there are 3 GPUs, by the names"),
    ] {
        assert!(hint(name).starts_with(expected), "{name}: {}", hint(name));
    }
    assert_eq!(registry.count("nvidia.com/gpu"), 3);
}
