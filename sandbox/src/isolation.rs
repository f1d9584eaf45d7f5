//! The isolation of steps.

use std::fmt;
use std::str::FromStr;

/// The methods to isolate a step. They differ in the owners of the step's files, and in the requirements of the
/// machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// The best that the machine allows.
    #[default]
    Auto,
    /// Root, of the machine or of a container, in a mount namespace without a user namespace. Files have their real
    /// owners.
    Root,
    /// A user namespace with the ranges of `/etc/subuid` and `/etc/subgid`, mapped by newuidmap(1) and newgidmap(1).
    /// Files have their owners, shifted by the ranges.
    Subuid,
    /// A user namespace with one id. A supervisor handles system calls about owners by seccomp_unotify(2), and records
    /// the owners: files belong to the user on disk, and to their recorded owners in the layer.
    OneUid,
    /// Root without the right to create namespaces, as in many containers: only chroot(2). The step sees the machine's
    /// processes and network.
    Chroot,
}

impl Isolation {
    /// All methods, with their names.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Auto, "auto"),
        (Self::Root, "root"),
        (Self::Subuid, "subuid"),
        (Self::OneUid, "one-uid"),
        (Self::Chroot, "chroot"),
    ];
}

/// A word that is not in [`Isolation::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {}", Isolation::ALL.map(|(_, word)| word).join(", "))]
pub struct UnknownIsolation;

impl FromStr for Isolation {
    type Err = UnknownIsolation;

    fn from_str(text: &str) -> Result<Self, UnknownIsolation> {
        Self::ALL.iter().find(|(_, word)| *word == text).map(|(isolation, _)| *isolation).ok_or(UnknownIsolation)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Root => "root",
            Self::Subuid => "subuid",
            Self::OneUid => "one-uid",
            Self::Chroot => "chroot",
        })
    }
}

/// The entered isolation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// Own mounts, and permission to create further namespaces.
    Namespaces,
    /// Only chroot(2): mounts are impossible, and processes see all others.
    Chroot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_is_written() {
        for (isolation, word) in Isolation::ALL {
            assert_eq!((isolation.to_string().as_str(), word.parse()), (word, Ok(isolation)));
        }
        assert_eq!(Isolation::default(), Isolation::Auto);
        let error = "Root".parse::<Isolation>().unwrap_err().to_string();
        assert_eq!(error, "expected one of auto, root, subuid, one-uid, chroot");
    }
}
