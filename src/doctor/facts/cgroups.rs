//! Control groups.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Machine, text};
use crate::run::host::second_cgroups;

/// The usual mount point.
const ROOT: &str = "/sys/fs/cgroup";

/// Which hierarchies are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hierarchy {
    /// No hierarchy.
    #[default]
    None,
    /// The v1 hierarchies, one for each controller.
    V1,
    /// The v1 hierarchies, and the v2 hierarchy beside them.
    Hybrid,
    /// The v2 hierarchy.
    V2,
}

/// Control groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Which hierarchies are mounted.
    pub hierarchy: Hierarchy,
    /// The controllers that this user can set limits with, sorted.
    pub controllers: Vec<String>,
    /// Whether the v2 hierarchy has controllers beside the v1 hierarchies.
    pub split: bool,
}

impl Cgroups {
    pub(super) fn gather(machine: &Machine) -> Self {
        let root = Path::new(ROOT);
        let hierarchy = match () {
            () if root.join("cgroup.controllers").exists() => Hierarchy::V2,
            () if root.join("unified/cgroup.procs").exists() => Hierarchy::Hybrid,
            () if root.join("memory").exists() || root.join("cpu").exists() => Hierarchy::V1,
            () => Hierarchy::None,
        };
        let mut controllers = match hierarchy {
            Hierarchy::V2 => own(machine).and_then(|own| text(own.join("cgroup.controllers"))).unwrap_or_default(),
            _ if machine.is_root() => directories(root),
            _ => String::new(),
        };
        controllers.truncate(4096);
        let mut controllers: Vec<String> = controllers.split_ascii_whitespace().map(str::to_owned).collect();
        controllers.sort();
        Self { hierarchy, controllers, split: second_cgroups().is_some() }
    }
}

/// The parent cgroup of this user's containers.
fn own(machine: &Machine) -> Option<PathBuf> {
    if machine.is_root() {
        return Some(ROOT.into());
    }
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let inside = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let path = Path::new(ROOT).join(inside);
    // The topmost cgroup that the user can change: systemd delegates `user@UID.service`.
    let owned = path.ancestors().take_while(|path| path.starts_with(ROOT));
    let owned = owned.filter(|path| path.metadata().is_ok_and(|directory| directory.uid() == machine.uid));
    owned.last().map(Path::to_path_buf)
}

fn directories(root: &Path) -> String {
    let names = ["blkio", "cpu", "cpuset", "devices", "freezer", "memory", "pids"];
    names.into_iter().filter(|name| root.join(name).exists()).collect::<Vec<_>>().join(" ")
}
