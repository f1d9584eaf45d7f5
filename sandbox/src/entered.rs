//! The rights of a process after it entered its namespaces.

use ociforge_manifests::runtime::IdMap;

use super::{Confinement, ids};

/// The available ids of files and processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapping {
    /// All ids: this is root outside of any user namespace.
    All,
    /// The user as root, and the user's ranges in `/etc/subuid` and `/etc/subgid`; or the ids of the outer namespace,
    /// if its root can delegate them.
    Ranges,
    /// Only root, which is the user's id. `setgroups` fails.
    OneId,
}

impl IdMapping {
    /// The mapping of this process's current user namespace.
    pub(super) fn present() -> Self {
        let one = |maps: &[IdMap]| ids::count(maps) <= 1;
        match ids::current() {
            None => Self::All,
            Some(maps) if one(&maps.uids) || one(&maps.gids) => Self::OneId,
            Some(_) => Self::Ranges,
        }
    }
}

/// Proof that this process is root, or the root of a user namespace, with its own mount namespace. With
/// [`Confinement::Chroot`] it is only root.
#[derive(Debug)]
pub struct Entered {
    ids: IdMapping,
    new: bool,
    confinement: Confinement,
    warning: Option<String>,
}

impl Entered {
    /// Root with its own mount namespace.
    pub(super) fn mounts() -> Self {
        Self { ids: IdMapping::present(), new: false, confinement: Confinement::Namespaces, warning: None }
    }

    /// A user namespace that this process created.
    pub(super) fn user_namespace(ids: IdMapping, warning: Option<String>) -> Self {
        Self { ids, new: true, confinement: Confinement::Namespaces, warning }
    }

    /// Root without namespaces; the warning has the reason.
    pub(super) fn chroot(warning: Option<String>) -> Self {
        Self { ids: IdMapping::present(), new: false, confinement: Confinement::Chroot, warning }
    }

    /// The available ids.
    #[must_use]
    pub fn ids(&self) -> IdMapping {
        self.ids
    }

    /// The isolation of steps. Always namespaces after [`enter`](super::enter).
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Whether this is a user namespace, so that specs must have their rootless form.
    #[must_use]
    pub fn rootless(&self) -> bool {
        self.ids != IdMapping::All
    }

    /// Whether this process created the user namespace. Root may already have been in one.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// Whether files have the same owners outside of this user namespace.
    #[must_use]
    pub fn shares_ids(&self) -> bool {
        let same = |maps: &[IdMap]| maps.iter().all(|map| map.container == map.host);
        ids::current().is_none_or(|maps| same(&maps.uids) && same(&maps.gids))
    }

    /// Why the isolation is weaker than the system's configuration intends: only one id, or no namespaces.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub(super) fn into_warning(self) -> String {
        self.warning.unwrap_or_default()
    }

    /// A one-line description.
    #[must_use]
    pub fn describe(&self) -> String {
        match (self.confinement, self.ids) {
            (Confinement::Chroot, _) if self.warning.is_some() => "chroot: nothing else is allowed here".into(),
            (Confinement::Chroot, _) => "chroot".into(),
            (Confinement::Namespaces, IdMapping::All) => "root in a mount namespace".into(),
            (Confinement::Namespaces, IdMapping::OneId) => "a user namespace with one id; owners are recorded".into(),
            (Confinement::Namespaces, IdMapping::Ranges) => {
                let count = |maps: ociforge_manifests::runtime::IdMappings| ids::count(&maps.uids);
                format!("a user namespace with {} ids", ids::current().map_or(0, count))
            }
        }
    }
}
