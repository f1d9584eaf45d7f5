//! Bundles with busybox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::identity::{Machine, Who};

/// A bundle and a place for the state of its container.
pub(crate) struct Bundle {
    directory: tempfile::TempDir,
}

impl Bundle {
    pub(crate) fn new(machine: &Machine, who: Who, tty: bool, arguments: &[&str]) -> Self {
        let directory = machine.directory(who);
        let root = directory.path().join("bundle/rootfs");
        for name in ["bin", "dev", "proc", "sys", "etc", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "cat", "id", "tty", "stty", "grep"] {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        fs::write(root.join("etc/noprogram"), "").unwrap();
        let spec = serde_json::to_vec_pretty(&spec(who, tty, arguments)).unwrap();
        fs::write(directory.path().join("bundle/config.json"), spec).unwrap();
        machine.give(who, directory.path());
        Self { directory }
    }

    pub(crate) fn path(&self) -> String {
        self.directory.path().join("bundle").to_str().unwrap().to_owned()
    }

    pub(crate) fn state(&self) -> String {
        self.directory.path().join("state").to_str().unwrap().to_owned()
    }

    /// What is left of the container and of the work on it.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let names =
            |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let beside =
            names(Path::new(&self.path())).filter(|path| !path.ends_with("rootfs") && !path.ends_with("config.json"));
        names(Path::new(&self.state())).chain(beside).collect()
    }
}

/// The smallest spec in docker's manner. Without root it has no namespace of its own for users: it is in one already.
fn spec(who: Who, tty: bool, arguments: &[&str]) -> Value {
    let rootless = who != Who::Root;
    let capabilities = json!(["CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL"]);
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if who != Who::OneId {
        pts.push("gid=5");
    }
    let sys = if rootless {
        json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "nosuid", "noexec", "nodev", "ro"]})
    } else {
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]})
    };
    let mut linux = json!({"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}, {"type": "network"}]});
    if !rootless {
        linux["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 136, "access": "rwm"}]});
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": tty, "user": {"uid": 0, "gid": 0}, "args": arguments, "cwd": "/",
            "env": ["PATH=/bin", "TERM=xterm"],
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "root": {"path": "rootfs"},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
            sys,
        ],
        "linux": linux,
    })
}
