//! `/dev` (runtime-spec, config-linux.md, "Default Devices"): nodes, and the usual links beside them.
//!
//! A user namespace cannot create nodes, so the host's are mounted there.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid, chownat, makedev, mknodat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::umask;

use super::job::{Failed, PathBytes, Reports, SupervisorReport};
use super::spec::Device;
use super::target::{MountTarget, Shape, StepRoot};

/// Names and numbers of the devices of every container.
const USUAL: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Names and targets of the links.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];

/// Creates the usual devices and those of the spec in the root's `/dev`, which is a new tmpfs.
pub(super) fn make(root: &StepRoot, devices: &[Device], reports: &mut Reports) -> Result<(), Failed> {
    for (name, major, minor) in USUAL {
        let path = format!("/dev/{name}");
        let node = Node { kind: FileType::CharacterDevice, mode: 0o666, number: makedev(major, minor), owner: None };
        node.make(root, &path, reports).map_err(Failed::to(format!("make {path}")))?;
    }
    for device in devices {
        let made = Node::of(device).and_then(|node| node.make(root, &device.path, reports));
        made.map_err(Failed::to(format!("make {}", device.path)))?;
    }
    make_links(&open(root)?)
}

/// Creates the usual devices for the root's `/dev`, a new tmpfs that is then mounted with `nodev`: they are bind mounts
/// of nodes in another, invisible tmpfs, so that they can be opened and other nodes in `/dev` cannot. Returns the
/// target of `/dev`.
pub(super) fn make_apart(root: &StepRoot) -> Result<MountTarget, Failed> {
    let dev = open(root)?;
    mount("tmpfs", dev.name(), "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0755,size=64k")
        .map_err(Failed::to("mount a directory for devices"))?;
    let nodes = open(root)?;
    for (name, major, minor) in USUAL {
        let node = Node { kind: FileType::CharacterDevice, mode: 0o666, number: makedev(major, minor), owner: None };
        node.show(&nodes, dev.file(), name).map_err(Failed::to(format!("make /dev/{name}")))?;
    }
    unmount(nodes.name(), UnmountFlags::DETACH).map_err(Failed::to("hide the directory for devices"))?;
    make_links(&dev)?;
    Ok(dev)
}

fn open(root: &StepRoot) -> Result<MountTarget, Failed> {
    root.follow("/dev").and_then(|path| root.at(path)).map_err(Failed::to("open /dev"))
}

fn make_links(directory: &MountTarget) -> Result<(), Failed> {
    for (name, target) in LINKS {
        match symlinkat(target, directory.file(), name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(Failed::to(format!("make /dev/{name}"))(error)),
        }
    }
    Ok(())
}

/// Creates the missing usual devices in a root without a mounted `/dev`. They are reported.
pub(super) fn make_in_place(root: &StepRoot, reports: &mut Reports) -> io::Result<()> {
    let directory = root.at_or_made(root.follow("/dev")?, Shape::Directory, reports)?;
    for (name, major, minor) in USUAL {
        let node = Node { kind: FileType::CharacterDevice, mode: 0o666, number: makedev(major, minor), owner: None };
        match node.mknod(directory.file(), OsStr::new(name)) {
            Ok(()) => reports.tell(&SupervisorReport::Made(PathBytes::new(
                &Path::new("/").join(directory.path.as_path()).join(name),
            ))),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A device node.
struct Node {
    kind: FileType,
    mode: u32,
    number: u64,
    owner: Option<(u32, u32)>,
}

impl Node {
    fn of(device: &Device) -> io::Result<Self> {
        let kind = match device.kind.as_str() {
            "c" | "u" => FileType::CharacterDevice,
            "b" => FileType::BlockDevice,
            "p" => FileType::Fifo,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let owner = device.uid.zip(device.gid).filter(|owner| *owner != (0, 0));
        let number = makedev(device.major, device.minor);
        Ok(Self { kind, mode: device.file_mode.unwrap_or(0o666) & 0o7777, number, owner })
    }

    fn make(&self, root: &StepRoot, path: &str, reports: &mut Reports) -> io::Result<()> {
        let place = root.follow(path)?;
        if root.at(place.clone()).is_ok() {
            return Ok(());
        }
        if let Some(parent) = place.parent().filter(|parent| !parent.is_root()) {
            let parent = root.at_or_made(parent, Shape::Directory, reports)?;
            if self.mknod(parent.file(), OsStr::from_bytes(place.file_name())).is_ok() {
                return Ok(());
            }
        }
        if !Path::new(path).exists() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let target = root.at_or_made(place, Shape::File, reports)?;
        Ok(mount_bind(path, target.name())?)
    }

    /// Creates it among `nodes`, and mounts it in `directory`.
    fn show(&self, nodes: &MountTarget, directory: &OwnedFd, name: &str) -> io::Result<()> {
        self.mknod(nodes.file(), OsStr::new(name))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(directory, name, flags, Mode::from_raw_mode(0o666))?;
        let at = |directory: &OwnedFd| openat(directory, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let path = |file: &OwnedFd| format!("/proc/self/fd/{}", file.as_raw_fd());
        let (node, place) = (at(nodes.file())?, at(directory)?);
        Ok(mount_bind(path(&node), path(&place))?)
    }

    fn mknod(&self, parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
        let before = umask(Mode::empty());
        let made = mknodat(parent, name, self.kind, Mode::from_raw_mode(self.mode), self.number);
        umask(before);
        made?;
        let Some((uid, gid)) = self.owner else { return Ok(()) };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)
    }
}
