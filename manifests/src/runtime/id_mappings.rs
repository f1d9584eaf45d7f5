//! The ids of a user namespace (user_namespaces(7)).

use serde::Serialize;

/// A range of ids in a user namespace, and where it lies outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IdMap {
    /// The first id in the container.
    #[serde(rename = "containerID")]
    pub container: u32,
    /// The first id outside.
    #[serde(rename = "hostID")]
    pub host: u32,
    /// How many ids there are.
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
    /// Whether the container has this user.
    pub(super) fn has_user(&self, uid: u32) -> bool {
        has(&self.uids, uid)
    }

    /// Whether the container has this group.
    pub(super) fn has_group(&self, gid: u32) -> bool {
        has(&self.gids, gid)
    }

    /// Whether there is more than one group. Who maps no group but his own is denied all further ones by the kernel.
    pub(super) fn has_groups(&self) -> bool {
        self.gids.iter().map(|map| u64::from(map.size)).sum::<u64>() > 1
    }
}

fn has(maps: &[IdMap], id: u32) -> bool {
    maps.iter().any(|map| id.checked_sub(map.container).is_some_and(|offset| offset < map.size))
}
