//! Entering namespaces.
//!
//! A process that is not root becomes the root of a new user namespace, in which it may mount, and own files by more
//! than one id. Ids beyond its own are mapped by newuidmap and newgidmap, which must be called from outside: a helper
//! process stays there.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use ociforge_manifests::runtime::IdMap;
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{getegid, geteuid};

use super::obstacle::{Limits, Obstacle};
use super::{ids, sys};
use crate::error::Explain;

/// The hidden argument of the helper outside.
pub(super) const MAP_IDS: &str = "--ociforge-map-ids";

/// What tells the helper that the namespace is there.
const ENTERED: &[u8] = b".";

/// Which ids files and processes can have in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// All there are: this is root outside of any user namespace.
    All,
    /// Those of the user's ranges in `/etc/subuid` and `/etc/subgid`, and root, which is the user.
    Ranges,
    /// Only root, which is the user. `setgroups` fails.
    OneId,
}

/// That this process is root, or the root of a user namespace, and that its mounts are its own: they end with it.
#[derive(Debug)]
pub struct Entered {
    ids: Ids,
    new: bool,
    warning: Option<String>,
}

impl Entered {
    /// Namespaces that this process has made by itself.
    pub(super) fn by_itself(ids: Ids) -> Self {
        Self { ids, new: true, warning: None }
    }

    /// Which ids there are.
    #[must_use]
    pub fn ids(&self) -> Ids {
        self.ids
    }

    /// Whether this is a user namespace, so that specs need their rootless form.
    #[must_use]
    pub fn rootless(&self) -> bool {
        self.ids != Ids::All
    }

    /// Whether the user namespace was made by [`enter`]. Root may have been in one already.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.new
    }

    /// Why there is only one id although the system means the user to have more.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }
}

/// Namespaces that can't be entered.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel refuses the namespace.
    #[error("cannot enter a user namespace{}", because(*.obstacle))]
    Refused {
        /// What most likely forbids it.
        obstacle: Option<Obstacle>,
        /// What the kernel says.
        source: io::Error,
    },
    /// The namespace is there, but nothing can be done in it.
    #[error("cannot {step} in a user namespace{}", because(*.obstacle))]
    Powerless {
        /// What can't be done.
        step: &'static str,
        /// What most likely forbids it.
        obstacle: Option<Obstacle>,
        /// What the kernel says.
        source: io::Error,
    },
    /// Root can't have mounts of its own.
    #[error("cannot enter a mount namespace")]
    Mounts(#[source] io::Error),
}

fn because(obstacle: Option<Obstacle>) -> String {
    obstacle.map(|obstacle| format!(": {obstacle}")).unwrap_or_default()
}

impl Explain for SandboxError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { obstacle, .. } | Self::Powerless { obstacle, .. } => {
                Some(obstacle.map_or_else(|| "run as root".into(), Obstacle::hint))
            }
            Self::Mounts(_) => None,
        }
    }
}

/// Enters a mount namespace, and a user namespace first if this process is not root. To be called before any thread
/// exists.
///
/// # Errors
/// When the system forbids it, or this process has several threads.
pub fn enter() -> Result<Entered, SandboxError> {
    if geteuid().is_root() {
        match sys::unshare(false) {
            Ok(()) => {
                keep_mounts_here().map_err(SandboxError::Mounts)?;
                return Ok(Entered { ids: present_ids(), new: false, warning: None });
            }
            // The root of a container may not do this, but as anybody else it may in a user namespace.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(SandboxError::Mounts(error)),
        }
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let is_root = geteuid().is_root();
    let obstacle = |error: &io::Error| Limits::read().obstacle(Errno::from_io_error(error), is_root);
    let helper = Outside::prepare();
    sys::unshare(true).map_err(|source| SandboxError::Refused { obstacle: obstacle(&source), source })?;
    let powerless = |step| move |source| SandboxError::Powerless { step, obstacle: obstacle(&source), source };
    let (ids, warning) = match helper.and_then(|helper| helper.map(Outside::map).transpose()) {
        Ok(Some(())) => (Ids::Ranges, None),
        Ok(None) => (Ids::OneId, None),
        Err(reason) => (Ids::OneId, Some(format!("{reason}: everything belongs to one user here"))),
    };
    if ids == Ids::OneId {
        map_own_ids(uid, gid).map_err(powerless("map ids"))?;
    }
    keep_mounts_here().map_err(powerless("mount"))?;
    Ok(Entered { ids, new: true, warning })
}

/// Lets mounts of others in, and none of ours out.
pub(super) fn keep_mounts_here() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?)
}

/// The ids that this process's user namespace has already.
pub(super) fn present_ids() -> Ids {
    let one = |maps: &[IdMap]| maps.iter().map(|map| u64::from(map.size)).sum::<u64>() <= 1;
    match ids::current() {
        None => Ids::All,
        Some(maps) if one(&maps.uids) || one(&maps.gids) => Ids::OneId,
        Some(_) => Ids::Ranges,
    }
}

/// Maps root to the ids that this process came with, which needs no helper. What newuidmap has done before newgidmap
/// failed stays.
pub(super) fn map_own_ids(uid: u32, gid: u32) -> io::Result<()> {
    let is_mapped = |file: &str| fs::read_to_string(file).is_ok_and(|text| !text.is_empty());
    if !is_mapped("/proc/self/uid_map") {
        fs::write("/proc/self/uid_map", format!("0 {uid} 1\n"))?;
    }
    if !is_mapped("/proc/self/gid_map") {
        // The kernel wants this first: else a process could shed a group that denies it something.
        fs::write("/proc/self/setgroups", "deny\n")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1\n"))?;
    }
    Ok(())
}

/// The helper outside, waiting for the namespace.
struct Outside(Child);

impl Outside {
    /// Starts the helper, if the system gives the user ranges of ids. The error says why there is none although it does.
    fn prepare() -> Result<Option<Self>, String> {
        let Some(ranges) = ids::ranges()? else { return Ok(None) };
        let mut helper = super::helper(MAP_IDS);
        helper.arg(std::process::id().to_string());
        helper.arg(ranges.newuidmap).arg(words(&ranges.mappings.uids));
        helper.arg(ranges.newgidmap).arg(words(&ranges.mappings.gids));
        let helper = helper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        helper.map(|child| Some(Self(child))).map_err(|error| format!("cannot start the helper that maps ids: {error}"))
    }

    /// Has the ids mapped.
    fn map(mut self) -> Result<(), String> {
        let silent = |error: io::Error| format!("the helper that maps ids is gone: {error}");
        let (Some(mut stdin), Some(mut stdout)) = (self.0.stdin.take(), self.0.stdout.take()) else {
            return Err("the helper that maps ids can't be reached".into());
        };
        let written = stdin.write_all(ENTERED);
        drop(stdin);
        let mut reason = String::new();
        let read = stdout.read_to_string(&mut reason);
        let status = self.0.wait().map_err(silent)?;
        written.and(read).map_err(silent)?;
        match status.success() {
            true => Ok(()),
            false if Limits::read().no_new_privileges => Err(format!("{reason} ({})", Obstacle::NoNewPrivileges)),
            false => Err(reason),
        }
    }
}

fn words(maps: &[IdMap]) -> String {
    let words = maps.iter().map(|map| format!("{} {} {}", map.container, map.host, map.size));
    words.collect::<Vec<_>>().join(" ")
}

/// The helper's side: waits for its parent to enter the namespace, then maps ids for it. On failure it prints why.
pub(super) fn map_ids_from_outside(arguments: &[OsString]) -> ExitCode {
    let [pid, newuidmap, users, newgidmap, groups] = arguments else { return ExitCode::FAILURE };
    let mut word = Vec::new();
    if io::stdin().read_to_end(&mut word).is_err() || word != ENTERED {
        return ExitCode::FAILURE;
    }
    let mapped = [(newuidmap, users), (newgidmap, groups)].into_iter().try_for_each(|(tool, mappings)| {
        let tool = PathBuf::from(tool);
        run_tool(&tool, pid, &mappings.to_string_lossy())
    });
    match mapped {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ = io::stdout().write_all(reason.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn run_tool(tool: &Path, pid: &OsStr, mappings: &str) -> Result<(), String> {
    let name = tool.file_name().unwrap_or_default().to_string_lossy();
    let output = Command::new(tool).arg(pid).args(mappings.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let said = said.strip_prefix(&format!("{name}: ")).unwrap_or(said);
    Err(format!("{name} failed: {}", if said.is_empty() { output.status.to_string() } else { said.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_what_forbids_it_and_how_to_mend_it() {
        let source = || io::Error::from(io::ErrorKind::PermissionDenied);
        let error = SandboxError::Refused { obstacle: Some(Obstacle::NoneAllowed), source: source() };
        assert_eq!(error.to_string(), "cannot enter a user namespace: user.max_user_namespaces is 0");
        assert!(error.hint().unwrap().contains("user.max_user_namespaces="));
        let error = SandboxError::Powerless { step: "mount", obstacle: None, source: source() };
        assert_eq!(error.to_string(), "cannot mount in a user namespace");
        assert_eq!(error.hint().unwrap(), "run as root");
    }

    #[test]
    fn a_tool_that_fails_is_quoted() {
        let root = tempfile::tempdir().unwrap();
        let tool = root.path().join("newuidmap");
        fs::write(&tool, "#!/bin/sh\necho \"newuidmap: not for $2\" >&2; exit 1\n").unwrap();
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let error = run_tool(&tool, OsStr::new("7"), "0 1 1").unwrap_err();
        assert_eq!(error, "newuidmap failed: not for 0");
        let missing = run_tool(&root.path().join("newgidmap"), OsStr::new("7"), "0 1 1").unwrap_err();
        assert!(missing.starts_with("cannot run newgidmap: "), "{missing}");
    }
}
