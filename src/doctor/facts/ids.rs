//! Subordinate ids, which can be mapped into a user namespace.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::process::getegid;

use super::{Machine, text};
use ociforge_sandbox::ids::{new_namespace, of_this_process, subordinate_lines, subordinate_ranges};
use ociforge_sandbox::program;

/// The lowest id to allocate, as for useradd.
const FIRST: u64 = 100_000;

/// Subordinate ids, which can be mapped into a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubordinateIds {
    /// The user ids of this user in `/etc/subuid`.
    pub users: Allotment,
    /// The group ids of this user in `/etc/subgid`.
    pub groups: Allotment,
    /// The first id above all ranges of both files.
    pub free: u64,
    /// `newuidmap`.
    pub newuidmap: Mapper,
    /// `newgidmap`.
    pub newgidmap: Mapper,
}

/// The number of subordinate ids of a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allotment {
    /// In the file.
    pub given: u64,
    /// Those of the file that exist in the current user namespace.
    pub here: u64,
}

/// The state of a program that maps subordinate ids.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mapper {
    /// Not installed.
    #[default]
    Absent,
    /// Neither setuid root nor with capabilities, so that it cannot map ids.
    Powerless,
    /// Usable.
    Able,
}

impl SubordinateIds {
    pub(super) fn gather(machine: &Machine) -> Self {
        let [users, groups] = ["/etc/subuid", "/etc/subgid"].map(|file| text(file).unwrap_or_default());
        let allotment = |text: &str, own: u32, file: &str| {
            let ranges = subordinate_ranges(text, machine.user.as_deref(), machine.uid);
            let count = |here| new_namespace(own, &ranges, here).iter().skip(1).map(|map| u64::from(map.size)).sum();
            Allotment { given: count(&[]), here: count(&of_this_process(file)) }
        };
        Self {
            users: allotment(&users, machine.uid, "uid_map"),
            groups: allotment(&groups, getegid().as_raw(), "gid_map"),
            free: end(&users).max(end(&groups)).max(FIRST),
            newuidmap: mapper("newuidmap"),
            newgidmap: mapper("newgidmap"),
        }
    }
}

fn end(text: &str) -> u64 {
    let ends = subordinate_lines(text).map(|(_, range)| u64::from(range.start) + u64::from(range.count));
    ends.max().unwrap_or(0)
}

fn mapper(name: &str) -> Mapper {
    let Some(path) = program(name) else { return Mapper::Absent };
    let setuid = path.metadata().is_ok_and(|file| file.uid() == 0 && file.permissions().mode() & 0o4000 != 0);
    if setuid || has_capabilities(&path) { Mapper::Able } else { Mapper::Powerless }
}

fn has_capabilities(path: &Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(path, "security.capability", &mut value[..]).is_ok_and(|length| length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ids_are_behind_everybodys() {
        assert_eq!((end("al:100000:65536\n7:200000:10\nal2:1:2\nbroken\n"), end("")), (200_010, 0));
    }
}
