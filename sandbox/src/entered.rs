//! The rights of a process after it entered its namespaces.

use ociforge_manifests::runtime::IdMap;

use super::{Confinement, ids};

/// Which ids files and processes can have in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdMapping {
    /// All there are: this is root outside of any user namespace.
    All,
    /// Those of the user's ranges in `/etc/subuid` and `/etc/subgid`, and root, which is the user; or those of the
    /// namespace outside, where that has a root who may give them.
    Ranges,
    /// Only root, which is the user. `setgroups` fails.
    OneId,
}

impl IdMapping {
    /// Those that this process's user namespace has already.
    pub(super) fn present() -> Self {
        let one = |maps: &[IdMap]| ids::count(maps) <= 1;
        match ids::current() {
            None => Self::All,
            Some(maps) if one(&maps.uids) || one(&maps.gids) => Self::OneId,
            Some(_) => Self::Ranges,
        }
    }
}

/// That this process is root, or the root of a user namespace, and that its mounts are its own: they end with it. Where
/// [`Self::confinement`] says so, it is root and nothing more.
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

    /// A user namespace that this process has made by itself.
    pub(super) fn user_namespace(ids: IdMapping, warning: Option<String>) -> Self {
        Self { ids, new: true, confinement: Confinement::Namespaces, warning }
    }

    /// Root alone; the warning says why.
    pub(super) fn chroot(warning: Option<String>) -> Self {
        Self { ids: IdMapping::present(), new: false, confinement: Confinement::Chroot, warning }
    }

    /// Which ids there are.
    #[must_use]
    pub fn ids(&self) -> IdMapping {
        self.ids
    }

    /// The isolation of steps. Always namespaces after [`enter`](super::enter).
    #[must_use]
    pub fn confinement(&self) -> Confinement {
        self.confinement
    }

    /// Whether this is a user namespace, so that specs need their rootless form.
    #[must_use]
    pub fn rootless(&self) -> bool {
        self.ids != IdMapping::All
    }

    /// Whether the user namespace was made by this process. Root may have been in one already.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// Whether files have the same owners for those outside of this user namespace.
    #[must_use]
    pub fn shares_ids(&self) -> bool {
        let same = |maps: &[IdMap]| maps.iter().all(|map| map.container == map.host);
        ids::current().is_none_or(|maps| same(&maps.uids) && same(&maps.gids))
    }

    /// Why it is not better than it is although the system means it to be: only one id, or no namespaces.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    pub(super) fn into_warning(self) -> String {
        self.warning.unwrap_or_default()
    }

    /// A description in one line.
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
