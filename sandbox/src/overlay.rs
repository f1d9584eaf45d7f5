//! Overlay mounts: read-only lower directories with an upper directory for changes.
//!
//! Directories are opened first and passed to the kernel by their descriptors, as `/proc/self/fd/N`. So their names can
//! have any characters (`:`, `,` and `\` are special in the option string) and any length, and an image's 127 layers
//! fit into the page of mount(2)'s options.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags};

use super::{Cleanup, Entered, program};

/// The maximum size of mount(2)'s options in bytes, with the final zero.
const PAGE: usize = 4096;

/// The parameters of an overlay mount.
#[derive(Debug, Clone)]
pub struct Layers {
    /// The lower directories, **the topmost first**; at least one.
    pub lower: Vec<PathBuf>,
    /// The upper directory.
    pub upper: PathBuf,
    /// An empty directory for the kernel's use, in the same filesystem as `upper`.
    pub work: PathBuf,
    /// Whether changes may be lost when the machine crashes. `upper` can then be mounted only once.
    pub volatile: bool,
}

/// The mount method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The kernel, by the interface of 6.7 and later, whose only limit is the kernel's maximum of 500 layers.
    Fsopen,
    /// The kernel, by mount(2).
    Mount,
    /// The program fuse-overlayfs.
    Fuse,
}

/// An overlay mount that ends with this value.
#[derive(Debug)]
pub struct OverlayMount {
    target: PathBuf,
    method: Method,
    /// Ends fuse-overlayfs when this process is killed: otherwise it would keep itself and the namespace alive for
    /// ever.
    cleanup: Option<Cleanup>,
}

/// An error of an overlay mount.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayError {
    /// One of its directories cannot be opened.
    #[error("cannot open {}", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// No method works: the caller must copy the layers.
    #[error("cannot mount an overlay at {}", .target.display())]
    Refused {
        /// The mount point.
        target: PathBuf,
        /// The errors of the kernel and of fuse-overlayfs.
        source: Reasons,
    },
}

/// Why each method failed, in the order in which they were tried.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(method, reason)| format!("{method:?}: {reason}").to_lowercase()).collect::<Vec<_>>().join("; "))]
pub struct Reasons(pub Vec<(Method, io::Error)>);

impl OverlayError {
    /// The hint for the user, as a sentence without a capital or a full stop.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Directory { .. } => None,
            Self::Refused { .. } => Some("install fuse-overlayfs, or use a kernel of 5.11 or later".into()),
        }
    }
}

/// Mounts `layers` at the directory `target`, by the first method that works.
///
/// # Errors
/// When a directory cannot be opened, or no method works.
pub fn mount(entered: &Entered, layers: &Layers, target: &Path) -> Result<OverlayMount, OverlayError> {
    mount_by(&[Method::Fsopen, Method::Mount, Method::Fuse], entered, layers, target)
}

/// The same by the first of `methods` that works.
///
/// # Errors
/// When a directory cannot be opened, or no method works.
pub fn mount_by(
    methods: &[Method],
    entered: &Entered,
    layers: &Layers,
    target: &Path,
) -> Result<OverlayMount, OverlayError> {
    let target =
        fs::canonicalize(target).map_err(|source| OverlayError::Directory { directory: target.to_owned(), source })?;
    let opened = OverlayDirectories::new(layers, entered.rootless())?;
    let mut reasons = Vec::new();
    for method in methods.iter().copied() {
        let mounted = match method {
            Method::Fsopen => opened.whole(|off| opened.fsopen(&target, off)).map(|()| None),
            Method::Mount => opened.whole(|off| opened.mount(&target, off)).map(|()| None),
            Method::Fuse => opened.fuse(&target).map(Some),
        };
        match mounted {
            Ok(cleanup) => return Ok(OverlayMount { target, method, cleanup }),
            Err(reason) => reasons.push((method, reason)),
        }
    }
    Err(OverlayError::Refused { target, source: Reasons(reasons) })
}

/// The directories, open.
struct OverlayDirectories {
    lower: Vec<OwnedFd>,
    upper: OwnedFd,
    work: OwnedFd,
    volatile: bool,
    /// Opaque directories are marked in `user.` attributes, because `trusted.` ones require the real root.
    userxattr: bool,
}

impl OverlayDirectories {
    fn new(layers: &Layers, userxattr: bool) -> Result<Self, OverlayError> {
        let directory = |path: &PathBuf| {
            open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|source| OverlayError::Directory { directory: path.clone(), source: source.into() })
        };
        let lower = layers.lower.iter().map(directory).collect::<Result<_, _>>()?;
        let (upper, work) = (directory(&layers.upper)?, directory(&layers.work)?);
        Ok(Self { lower, upper, work, volatile: layers.volatile, userxattr })
    }

    /// The kernel's options without a value.
    fn flags(&self) -> Vec<&'static str> {
        let flags = [(self.userxattr, "userxattr"), (self.volatile, "volatile")];
        flags.into_iter().filter_map(|(set, name)| set.then_some(name)).collect()
    }

    /// Mounts so that the upper directory has complete files and directories: turns these features off, independent of
    /// the kernel's defaults, if the kernel supports them.
    fn whole(&self, mount: impl Fn(&[&str]) -> io::Result<()>) -> io::Result<()> {
        // With `userxattr` the others are always off, and the kernel refuses them.
        let off: &[&str] = if self.userxattr { &["index"] } else { &["redirect_dir", "metacopy", "index"] };
        mount(off).or_else(|_| mount(&[]))
    }

    fn fsopen(&self, target: &Path, off: &[&str]) -> io::Result<()> {
        let context = mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        let configure = || -> rustix::io::Result<OwnedFd> {
            mount::fsconfig_set_string(&context, "source", "overlay")?;
            for directory in &self.lower {
                mount::fsconfig_set_string(&context, "lowerdir+", name_of("self", directory))?;
            }
            mount::fsconfig_set_string(&context, "upperdir", name_of("self", &self.upper))?;
            mount::fsconfig_set_string(&context, "workdir", name_of("self", &self.work))?;
            for flag in self.flags() {
                mount::fsconfig_set_flag(&context, flag)?;
            }
            for feature in off {
                mount::fsconfig_set_string(&context, *feature, "off")?;
            }
            mount::fsconfig_create(&context)?;
            mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        };
        let mounted = configure().map_err(|error| with_messages(&context, error.into()))?;
        mount::move_mount(&mounted, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        Ok(())
    }

    fn mount(&self, target: &Path, off: &[&str]) -> io::Result<()> {
        let mut options = self.options("self", &self.flags());
        for feature in off {
            options.push_str(&format!(",{feature}=off"));
        }
        if options.len() >= PAGE {
            let many = format!("the mount options of {} layers exceed a page of memory", self.lower.len());
            return Err(io::Error::new(io::ErrorKind::ArgumentListTooLong, many));
        }
        let options = CString::new(options)?;
        Ok(mount::mount("overlay", target, "overlay", MountFlags::empty(), options.as_c_str())?)
    }

    fn fuse(&self, target: &Path) -> io::Result<Cleanup> {
        let find = |name: &str| {
            let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name} is not installed"));
            program(name).ok_or_else(missing)
        };
        let (fuse, umount) = (find("fuse-overlayfs")?, find("umount")?);
        // It ends by itself after the unmount.
        let command = [umount.into_os_string(), OsString::from("-l"), target.as_os_str().to_owned()];
        let cleanup = Cleanup::new(command)?;
        // The names use this process's descriptors, because fuse-overlayfs is another process. It moves to the
        // background when the mount is ready.
        let flags: &[&str] = if self.volatile { &["volatile"] } else { &[] };
        let options = self.options(&std::process::id().to_string(), flags);
        let output = Command::new(fuse).arg("-o").arg(options).arg(target).stdin(Stdio::null()).output();
        let output = match output {
            Ok(output) if output.status.success() => return Ok(cleanup),
            other => other,
        };
        cleanup.dismiss();
        Err(io::Error::other(String::from_utf8_lossy(&output?.stderr).trim().to_owned()))
    }

    /// The options in one string, with the names of the directories relative to a process.
    fn options(&self, process: &str, flags: &[&str]) -> String {
        let lower: Vec<String> = self.lower.iter().map(|directory| name_of(process, directory)).collect();
        let (upper, work) = (name_of(process, &self.upper), name_of(process, &self.work));
        let mut options = format!("lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
        for flag in flags {
            options.push(',');
            options.push_str(flag);
        }
        options
    }
}

fn name_of(process: &str, directory: &OwnedFd) -> String {
    format!("/proc/{process}/fd/{}", directory.as_raw_fd())
}

/// The error with the messages of the kernel's mount context: the error number is unspecific.
fn with_messages(context: &OwnedFd, error: io::Error) -> io::Error {
    let mut note = [0; 512];
    let Ok(length) = rustix::io::read(context, &mut note) else { return error };
    let note = String::from_utf8_lossy(&note[..length]);
    // Each message begins with its severity, a letter.
    let note = note.trim().split_once(' ').map_or("", |(_, text)| text);
    io::Error::new(error.kind(), format!("{error}: {note}"))
}

impl OverlayMount {
    /// The mount point.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The mount method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }
}

impl Drop for OverlayMount {
    /// Detaches the mount, even while it is in use: it ends with its last user.
    fn drop(&mut self) {
        let unmounted = mount::unmount(&self.target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        if let (Ok(()), Some(cleanup)) = (unmounted, self.cleanup.take()) {
            cleanup.dismiss();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_127_layers_fit_into_a_page_whatever_their_names() {
        let root = tempfile::tempdir().unwrap();
        let lower: Vec<PathBuf> = (0..127).map(|n| root.path().join(format!("{n}{}", "a:,\\".repeat(50)))).collect();
        let [upper, work] = ["upper", "work"].map(|name| root.path().join(name));
        for directory in lower.iter().chain([&upper, &work]) {
            fs::create_dir(directory).unwrap();
        }
        let opened = OverlayDirectories::new(&Layers { lower, upper, work, volatile: true }, true).unwrap();
        let options = opened.options("self", &opened.flags());
        assert!(options.len() < PAGE && options.ends_with(",userxattr,volatile"), "{options}");
        assert_eq!(options.matches(':').count(), 126);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let root = tempfile::tempdir().unwrap();
        let [upper, work] = ["upper", "work"].map(|name| root.path().join(name));
        let layers = Layers { lower: vec![root.path().join("none")], upper, work, volatile: false };
        let error = OverlayDirectories::new(&layers, false).err().unwrap();
        assert!(error.to_string().ends_with("/none"), "{error}");
    }
}
