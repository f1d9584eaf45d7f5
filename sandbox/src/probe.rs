//! Probes of namespaces and overlay mounts, in a child process.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use rustix::mount::{MountFlags, mount};
use rustix::process::{getegid, geteuid};

use super::mapping::map_own_ids;
use super::overlay::{self, Layers, Method, OverlayError};
use super::userns::make_mounts_slave;
use super::{Entered, IdMapping, sys};

/// The hidden argument of the child; the kind and the directory follow it.
pub(super) const PROBE: &str = "--ociforge-probe";

/// The kinds of probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamespaceKind {
    /// A user namespace, and a mount namespace in it.
    User,
    /// Only a mount namespace, which only root can create.
    Root,
}

/// The results in the order of the steps; steps after a failure are not tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NamespaceProbe {
    /// Creating the namespaces.
    pub namespace: ProbeResult,
    /// Becoming root in the user namespace.
    pub mapping: ProbeResult,
    /// Mounting a tmpfs.
    pub mount: ProbeResult,
    /// Mounting an overlay in the store's filesystem, and removing a file of its lower layer.
    pub overlay: ProbeResult,
}

/// The result of one step of a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProbeResult {
    /// It was not tried.
    #[default]
    Not,
    /// It worked.
    Worked,
    /// The kernel refused it with this number (errno(3)).
    Refused(i32),
}

impl NamespaceProbe {
    /// Whether the namespaces can be made and used.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.mount == ProbeResult::Worked
    }

    /// The first refusal before the overlay.
    #[must_use]
    pub fn refusal(&self) -> Option<i32> {
        [self.namespace, self.mapping, self.mount].into_iter().find_map(|tried| match tried {
            ProbeResult::Refused(number) => Some(number),
            _ => None,
        })
    }
}

/// Runs the probe in a child, with files in a new directory in `scratch`, which is then removed.
#[must_use]
pub fn probe_namespaces(scratch: &Path, kind: NamespaceKind) -> NamespaceProbe {
    let Ok(directory) = tempfile::Builder::new().prefix(".tmp-doctor-").tempdir_in(scratch) else {
        return NamespaceProbe::default();
    };
    let kind = if kind == NamespaceKind::User { "user" } else { "root" };
    let probe = in_child(&[OsStr::new(kind), directory.path().as_os_str()]);
    // The kernel leaves a directory there that its owner cannot read.
    let _ = fs::set_permissions(directory.path().join("work/work"), fs::Permissions::from_mode(0o700));
    probe
}

/// Probes a user namespace in a child, without an overlay and without files.
pub(super) fn user_namespace() -> NamespaceProbe {
    in_child(&[OsStr::new("user")])
}

fn in_child(arguments: &[&OsStr]) -> NamespaceProbe {
    let output = super::reexec_command(PROBE).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| read(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// Parses the child's output: a line for each step, with its error number, or 0.
fn read(text: &str) -> NamespaceProbe {
    let step = |name: &str| result_of(text, name);
    NamespaceProbe {
        namespace: step("namespace "),
        mapping: step("mapping "),
        mount: step("mount "),
        overlay: step("overlay "),
    }
}

/// The result of the step whose line begins with `name`.
pub(super) fn result_of(text: &str, name: &str) -> ProbeResult {
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    number
        .map_or(ProbeResult::Not, |number| if number == 0 { ProbeResult::Worked } else { ProbeResult::Refused(number) })
}

/// The child's `main`: runs the probe in this process.
pub(super) fn as_child(arguments: &[OsString]) -> ExitCode {
    let [kind, rest @ ..] = arguments else { return ExitCode::FAILURE };
    let kind = if kind == "user" { NamespaceKind::User } else { NamespaceKind::Root };
    if steps(kind, rest.first().map(Path::new)).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn steps(kind: NamespaceKind, directory: Option<&Path>) -> io::Result<()> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    step("namespace", || sys::unshare(kind == NamespaceKind::User))?;
    let entered = match kind {
        NamespaceKind::Root => Entered::mounts(),
        NamespaceKind::User => {
            step("mapping", || map_own_ids(uid, gid))?;
            Entered::user_namespace(IdMapping::OneId, None)
        }
    };
    let Some(directory) = directory else { return step("mount", || try_mount(Path::new("/"))) };
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| directory.join(name));
    for new in [&lower, &upper, &work, &merged] {
        fs::create_dir(new)?;
    }
    fs::write(lower.join("file"), "")?;
    step("mount", || try_mount(&merged))?;
    step("overlay", || {
        let layers = Layers { lower: vec![lower], upper, work, volatile: false };
        let kernels = [Method::Fsopen, Method::Mount];
        let _overlay = overlay::mount_by(&kernels, &entered, &layers, &merged).map_err(number_of)?;
        fs::remove_file(merged.join("file"))
    })
}

fn try_mount(target: &Path) -> io::Result<()> {
    make_mounts_slave()?;
    Ok(mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?)
}

/// The error of mount(2), which all kernels support.
fn number_of(error: OverlayError) -> io::Error {
    let source = match error {
        OverlayError::Directory { source, .. } => Some(source),
        OverlayError::Refused { source, .. } => source.0.into_iter().next_back().map(|(_, source)| source),
    };
    source.unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// Runs a step and reports its result.
pub(super) fn step(name: &str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let ended = act();
    let number = ended.as_ref().map_or_else(|error| error.raw_os_error().unwrap_or(5), |()| 0);
    writeln!(io::stdout(), "{name} {number}")?;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_child_writes_is_read() {
        let whole = read("namespace 0\nmapping 0\nmount 0\noverlay 22\n");
        assert!(whole.is_usable() && whole.refusal().is_none());
        assert_eq!(whole.overlay, ProbeResult::Refused(22));
        let refused = read("namespace 0\nmapping 1\n");
        assert_eq!(
            (refused.mapping, refused.mount, refused.refusal()),
            (ProbeResult::Refused(1), ProbeResult::Not, Some(1))
        );
        assert_eq!(read("Killed\n"), NamespaceProbe::default());
    }
}
