//! Entering namespaces.
//!
//! A process without root becomes the root of a new user namespace, in which it can mount, and own files with several
//! ids if [`mapping`](super::mapping) maps them.

use std::io;

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};
use rustix::thread::CapabilitySet;

use super::diagnosis::{self, Diagnosis, Limits};
use super::ids::{self, Ranges};
use super::mapping::{Outside, map_own_ids};
use super::probe::{self, NamespaceProbe, ProbeResult};
use super::{Entered, IdMapping, Isolation, sys};

/// The capabilities besides chroot(2) that root needs for the installation of packages.
const OF_CHROOT: CapabilitySet = CapabilitySet::SYS_CHROOT
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// An error of entering namespaces.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The process did not try to enter namespaces.
    #[error("no namespaces were entered")]
    Outside,
    /// The kernel refuses the namespace.
    #[error("cannot enter a user namespace{}", because(.diagnosis.as_ref()))]
    Refused {
        /// The probable reason.
        diagnosis: Option<Diagnosis>,
        /// The error of the kernel.
        source: io::Error,
    },
    /// The namespace exists, but an operation in it is refused.
    #[error("cannot {step} in a user namespace{}", because(.diagnosis.as_ref()))]
    Powerless {
        /// The refused operation.
        step: &'static str,
        /// The probable reason.
        diagnosis: Option<Diagnosis>,
        /// The error of the kernel.
        source: io::Error,
    },
    /// Root cannot create a mount namespace.
    #[error("cannot enter a mount namespace")]
    Mounts(#[source] io::Error),
    /// A prerequisite of the requested isolation is missing.
    #[error("cannot use {what}")]
    Lacking {
        /// The requested isolation.
        what: &'static str,
        /// The missing prerequisite.
        source: MissingPrerequisite,
    },
}

/// A missing prerequisite of an isolation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MissingPrerequisite {
    /// The process is not root.
    #[error("the user is not root")]
    Root,
    /// Root lacks these capabilities, as in a container.
    #[error("root has no {} here", .0.join(", no "))]
    Capabilities(Vec<String>),
    /// No ranges of ids.
    #[error("{0}")]
    Ranges(String),
}

fn because(diagnosis: Option<&Diagnosis>) -> String {
    diagnosis.map(|diagnosis| format!(": {diagnosis}")).unwrap_or_default()
}

impl SandboxError {
    /// The hint for the user, as a sentence without a capital or a full stop.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { diagnosis, .. } | Self::Powerless { diagnosis, .. } => {
                Some(diagnosis.as_ref().map_or_else(|| "run as root".into(), Diagnosis::hint))
            }
            // Root has the permissions for all other cases.
            Self::Mounts(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("start the container around this with `--security-opt apparmor=unconfined`".into())
            }
            Self::Outside | Self::Mounts(_) => None,
            Self::Lacking { source, .. } => Some(source.hint()),
        }
    }
}

impl MissingPrerequisite {
    fn hint(&self) -> String {
        match self {
            Self::Root => "run as root, or omit --isolation".into(),
            Self::Capabilities(names) => {
                let flags = names.iter().map(|name| format!("--cap-add {}", name.trim_start_matches("CAP_")));
                format!("start the container around this with `{}`", flags.collect::<Vec<_>>().join(" "))
            }
            Self::Ranges(_) => {
                "give the user ids with `usermod --add-subuids FIRST-LAST --add-subgids FIRST-LAST USER`; `ociforge \
                    doctor` shows free ids, or omit --isolation"
                    .into()
            }
        }
    }
}

/// Enters a mount namespace; enters a user namespace first if this process is not root, or is a root without permission
/// for a mount namespace. Must be called before threads exist.
///
/// # Errors
/// When the system forbids it, or this process has several threads.
pub fn enter() -> Result<Entered, SandboxError> {
    match mount_namespace() {
        Some(Ok(entered)) => Ok(entered),
        // The root of a container cannot do this, but may create a user namespace like any user.
        Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(SandboxError::Mounts(error)),
        _ => user_namespace(any_ranges()),
    }
}

/// Prepares this process for the steps of a build. [`Isolation::Auto`] uses the best isolation that the machine allows:
/// as [`enter`], or chroot(2) for a root that cannot create namespaces. Any other isolation is used or is an error.
/// Must be called before threads exist.
///
/// # Errors
/// When the system forbids it, or this process has several threads.
pub fn enter_as(isolation: Isolation) -> Result<Entered, SandboxError> {
    match isolation {
        Isolation::Auto => best(),
        Isolation::Root => {
            let lacking = |source| SandboxError::Lacking { what: "a mount namespace of root's", source };
            let made = mount_namespace().ok_or_else(|| lacking(MissingPrerequisite::Root))?;
            made.map_err(|error| match diagnosis::lacking(CapabilitySet::SYS_ADMIN) {
                names if names.is_empty() => SandboxError::Mounts(error),
                names => lacking(MissingPrerequisite::Capabilities(names)),
            })
        }
        Isolation::Subuid => {
            let without = |why| SandboxError::Lacking {
                what: "a user namespace with many ids",
                source: MissingPrerequisite::Ranges(why),
            };
            let ranges = any_ranges().and_then(|ranges| ranges.ok_or_else(|| NO_RANGES.into())).map_err(without)?;
            let entered = user_namespace(Ok(Some(ranges)))?;
            if entered.ids() == IdMapping::Ranges { Ok(entered) } else { Err(without(entered.into_warning())) }
        }
        Isolation::OneUid => user_namespace(Ok(None)),
        Isolation::Chroot => chroot(None),
    }
}

const NO_RANGES: &str = "neither /etc/subuid nor /etc/subgid has ids for this user";

fn best() -> Result<Entered, SandboxError> {
    match mount_namespace() {
        None => return user_namespace(any_ranges()),
        Some(Ok(entered)) => return Ok(entered),
        // In a container without the permission, or in a chroot, whose root is not a mount point.
        Some(Err(error)) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => {}
        Some(Err(error)) => return Err(SandboxError::Mounts(error)),
    }
    // A process cannot leave a namespace that is unusable, so a child tries it first.
    let tried = probe::user_namespace();
    if tried.is_usable() {
        return user_namespace(any_ranges());
    }
    let untried = || io::Error::other("they could not be tried");
    let refused = refused(&tried, tried.refusal().map_or_else(untried, io::Error::from_raw_os_error));
    let why = match &refused {
        SandboxError::Refused { diagnosis: None, source } if source.kind() == io::ErrorKind::PermissionDenied => {
            ": the kernel forbids them here, as in a chroot".into()
        }
        SandboxError::Refused { diagnosis: None, source } => format!(": {source}"),
        SandboxError::Refused { diagnosis, .. } | SandboxError::Powerless { diagnosis, .. } => {
            because(diagnosis.as_ref())
        }
        _ => String::new(),
    };
    // The refusal is more informative than the missing prerequisites of chroot.
    chroot(Some(format!("no namespaces{why}"))).map_err(|_| refused)
}

/// The error for a user namespace that root's child could not create or use.
fn refused(tried: &NamespaceProbe, source: io::Error) -> SandboxError {
    let (limits, refusal) = (Limits::read(), Errno::from_io_error(&source));
    match (tried.namespace, tried.mapping) {
        (ProbeResult::Refused(_) | ProbeResult::Not, _) => {
            SandboxError::Refused { diagnosis: limits.diagnosis(refusal, true), source }
        }
        (_, ProbeResult::Refused(_)) => {
            SandboxError::Powerless { step: "map ids", diagnosis: limits.diagnose_mapping(refusal, true), source }
        }
        _ => SandboxError::Powerless { step: "mount", diagnosis: limits.diagnosis(refusal, true), source },
    }
}

/// Enters only a mount namespace, as root.
fn mount_namespace() -> Option<io::Result<Entered>> {
    let enter = || {
        sys::unshare(false)?;
        make_mounts_slave()?;
        Ok(Entered::mounts())
    };
    geteuid().is_root().then(enter)
}

/// Uses root without namespaces.
fn chroot(warning: Option<String>) -> Result<Entered, SandboxError> {
    let lack = match (geteuid().is_root(), diagnosis::lacking(OF_CHROOT)) {
        (false, _) => MissingPrerequisite::Root,
        (true, names) if !names.is_empty() => MissingPrerequisite::Capabilities(names),
        _ => return Ok(Entered::chroot(warning)),
    };
    Err(SandboxError::Lacking { what: "chroot", source: lack })
}

/// Further ids that this process can map: those of root before those of its ranges.
fn any_ranges() -> Result<Option<Ranges>, String> {
    ids::of_root().map_or_else(ids::ranges, |ranges| Ok(Some(ranges)))
}

/// Enters a user namespace with `ranges`, or else with one id and the reason for a warning.
fn user_namespace(ranges: Result<Option<Ranges>, String>) -> Result<Entered, SandboxError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let is_root = geteuid().is_root();
    let limits = Limits::read();
    let helper = ranges.and_then(|ranges| ranges.as_ref().map(Outside::prepare).transpose());
    sys::unshare(true).map_err(|source| {
        let diagnosis = limits.diagnosis(Errno::from_io_error(&source), is_root);
        SandboxError::Refused { diagnosis, source }
    })?;
    let (ids, warning) = match helper.and_then(|helper| helper.map(Outside::map).transpose()) {
        Ok(Some(())) => (IdMapping::Ranges, None),
        Ok(None) => (IdMapping::OneId, None),
        Err(reason) => (IdMapping::OneId, Some(format!("{reason}: all files belong to one user"))),
    };
    if ids == IdMapping::OneId {
        map_own_ids(uid, gid).map_err(|source| {
            let diagnosis = limits.diagnose_mapping(Errno::from_io_error(&source), is_root);
            SandboxError::Powerless { step: "map ids", diagnosis, source }
        })?;
    }
    make_mounts_slave().map_err(|source| {
        let diagnosis = limits.diagnosis(Errno::from_io_error(&source), is_root);
        SandboxError::Powerless { step: "mount", diagnosis, source }
    })?;
    Ok(Entered::user_namespace(ids, warning))
}

/// Receives mounts of outer namespaces, and propagates none to them.
pub(super) fn make_mounts_slave() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_forbids_it_and_how_to_mend_it() {
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        let error = SandboxError::Refused { diagnosis: Some(Diagnosis::NoneAllowed), source: source() };
        assert_eq!(error.to_string(), "cannot enter a user namespace: user.max_user_namespaces is 0");
        assert!(error.hint().unwrap().contains("user.max_user_namespaces="));
        let error = SandboxError::Powerless { step: "mount", diagnosis: None, source: source() };
        assert_eq!(error.to_string(), "cannot mount in a user namespace");
        assert_eq!(error.hint().unwrap(), "run as root");
        let error = SandboxError::Mounts(source());
        assert!(error.hint().unwrap().contains("apparmor=unconfined"));
        assert_eq!(SandboxError::Mounts(io::ErrorKind::OutOfMemory.into()).hint(), None);
        let lack = MissingPrerequisite::Capabilities(vec!["CAP_CHOWN".into(), "CAP_SETUID".into()]);
        assert_eq!(lack.to_string(), "root has no CAP_CHOWN, no CAP_SETUID here");
        assert_eq!(lack.hint(), "start the container around this with `--cap-add CHOWN --cap-add SETUID`");
    }
}
