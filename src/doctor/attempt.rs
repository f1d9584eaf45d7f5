//! Whether namespaces can be made and overlays mounted in them, found out by doing it in a child.
//!
//! A process can enter a user namespace only while it has one thread, so the child is this program again with a hidden
//! first argument, which [`as_child`] takes care of at the very top of `main`.

mod sys;

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

/// The hidden argument; the kind and the directory follow it.
const ARGUMENT: &str = "__attempt";

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user namespace, and a mount namespace in it.
    User,
    /// A mount namespace alone, which only root can make.
    Root,
}

/// What came of it, in the order in which it is tried; what comes after a failure is not tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Making the namespaces.
    pub namespace: Tried,
    /// Becoming root in the user namespace.
    pub mapping: Tried,
    /// Mounting a tmpfs.
    pub mount: Tried,
    /// Mounting an overlay in the store's filesystem, and removing a file of its lower layer.
    pub overlay: Tried,
}

/// What came of trying something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tried {
    /// It was not tried.
    #[default]
    Not,
    /// It worked.
    Worked,
    /// The kernel refused it with this number (errno(3)).
    Refused(i32),
}

impl Attempt {
    /// Whether the namespaces can be made and used.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.mount == Tried::Worked
    }

    /// The first refusal before the overlay.
    #[must_use]
    pub fn refusal(&self) -> Option<i32> {
        [self.namespace, self.mapping, self.mount].into_iter().find_map(|tried| match tried {
            Tried::Refused(number) => Some(number),
            _ => None,
        })
    }
}

/// Tries it in a child, with files in a new directory in `scratch`, which is removed again.
#[must_use]
pub fn attempt(scratch: &Path, kind: Kind) -> Attempt {
    let Ok(directory) = tempfile::Builder::new().prefix(".tmp-doctor-").tempdir_in(scratch) else {
        return Attempt::default();
    };
    let kind = if kind == Kind::User { "user" } else { "root" };
    let mut command = Command::new("/proc/self/exe");
    command.args([OsStr::new(ARGUMENT), OsStr::new(kind), directory.path().as_os_str()]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    // The kernel leaves a directory there that its owner can't read.
    let _ = fs::set_permissions(directory.path().join("work/work"), fs::Permissions::from_mode(0o700));
    output.map(|output| read(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// What the child wrote: a line for each step, with the number of its error, or 0.
fn read(text: &str) -> Attempt {
    let step = |name: &str| {
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        number.map_or(Tried::Not, |number| if number == 0 { Tried::Worked } else { Tried::Refused(number) })
    };
    Attempt {
        namespace: step("namespace "),
        mapping: step("mapping "),
        mount: step("mount "),
        overlay: step("overlay "),
    }
}

/// Tries it in this process, if it was started for that. To be called first in `main`.
#[must_use]
pub fn as_child() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let kind = if arguments.next()? == "user" { Kind::User } else { Kind::Root };
    let directory = arguments.next()?;
    Some(if steps(kind, Path::new(&directory)).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn steps(kind: Kind, directory: &Path) -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    step("namespace", || sys::unshare(kind == Kind::User))?;
    if kind == Kind::User {
        step("mapping", || map(uid, gid))?;
    }
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(directory.join(name))?;
    }
    fs::write(directory.join("lower/file"), "")?;
    let merged = directory.join("merged");
    step("mount", || {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok(mount("tmpfs", &merged, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?)
    })?;
    step("overlay", || {
        // Relative names: the directory's own may hold characters that have a meaning in options.
        std::env::set_current_dir(directory)?;
        overlay(if kind == Kind::User { "userxattr," } else { "" })
            // Kernels before 5.11 know no `userxattr`; some distributions' allow the mount without.
            .or_else(|error| if kind == Kind::User { overlay("").map_err(|_| error) } else { Err(error) })?;
        fs::remove_file("merged/file")
    })
}

fn map(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn overlay(options: &str) -> io::Result<()> {
    let options = CString::new(format!("{options}lowerdir=lower,upperdir=upper,workdir=work"))?;
    Ok(mount("overlay", OsStr::from_bytes(b"merged"), "overlay", MountFlags::empty(), options.as_c_str())?)
}

/// Does a step and says how it ended.
fn step(name: &str, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
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
        assert_eq!(whole.overlay, Tried::Refused(22));
        let refused = read("namespace 0\nmapping 1\n");
        assert_eq!((refused.mapping, refused.mount, refused.refusal()), (Tried::Refused(1), Tried::Not, Some(1)));
        assert_eq!(read("Killed\n"), Attempt::default());
    }
}
