//! GPUs: machines that are made up, and what is said of them.

mod cdi_files;
mod images;
mod machines;

use std::collections::BTreeMap;

use ociforge_manifests::runtime::cdi::{CdiRegistry, DeviceFacts, DeviceNodeKind};
use serde_json::json;

use super::{Change, cdi, changed, file, gpu, image, lines, made_by, program, root, sound, user};
use crate::doctor::facts::*;
use crate::doctor::judge;

/// A CDI file as NVIDIA's toolkit writes it for one GPU and that driver.
fn of_driver(version: &str) -> String {
    let node = json!({"deviceNodes": [{"path": "/dev/nvidia0"}]});
    let gpus = ["0", "GPU-5a4b", "all"].map(|name| json!({"name": name, "containerEdits": node}));
    json!({
        "cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": gpus,
        "containerEdits": {
            "mounts": [
                {"hostPath": format!("/usr/lib/libcuda.so.{version}"), "containerPath": "/usr/lib/libcuda.so"},
                {"hostPath": format!("/usr/lib/libnvidia-ml.so.{version}"), "containerPath": "/usr/lib/libnvidia-ml.so"},
            ],
            "hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook"}],
        },
    })
    .to_string()
}

/// The machine of [`gpu`] with such a file, all of which is there, and without the hook.
fn specified(version: &str) -> MachineFacts {
    let mut facts = gpu();
    facts.gpus.hook = None;
    facts.gpus.cdi = cdi(&[("nvidia.yaml", &of_driver(version))]);
    let node = DeviceFacts { kind: DeviceNodeKind::Char, major: 195, minor: 0, mode: 0o666 };
    facts.gpus.devices = BTreeMap::from([("/dev/nvidia0".to_owned(), node)]);
    facts
}

fn absent(facts: &mut MachineFacts, paths: &[&str]) {
    facts.gpus.absent = paths.iter().map(|path| ((*path).to_owned(), "is not there".to_owned())).collect();
}
