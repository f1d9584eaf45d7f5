//! The ids of a user namespace (user_namespaces(7)).

use serde::Serialize;

/// A range of ids in a user namespace, and the corresponding ids outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdMap {
    /// The first id in the container.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// The first id outside.
    #[serde(rename = "hostID")]
    pub host: u32,
    /// The number of ids.
    pub size: u32,
}

/// The ids of a user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// Users.
    pub uids: Vec<IdMap>,
    /// Groups.
    pub gids: Vec<IdMap>,
}

impl IdMappings {
    /// Whether this user is mapped.
    pub(super) fn has_user(&self, uid: u32) -> bool {
        has(&self.uids, uid)
    }

    /// Whether this group is mapped.
    pub(super) fn has_group(&self, gid: u32) -> bool {
        has(&self.gids, gid)
    }

    /// Whether more than one group is mapped. If only the caller's own group is mapped, the kernel allows no
    /// supplementary groups.
    pub(super) fn has_groups(&self) -> bool {
        self.gids.iter().map(|map| u64::from(map.size)).sum::<u64>() > 1
    }
}

fn has(maps: &[IdMap], id: u32) -> bool {
    maps.iter().any(|map| id.checked_sub(map.container).is_some_and(|offset| offset < map.size))
}
