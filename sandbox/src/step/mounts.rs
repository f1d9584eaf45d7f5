//! The root and the mounts of the step (runtime-spec, config.md, "Mounts").
//!
//! A CI runner is often a container itself, in which some mounts are refused. There the step gets the container's own
//! mount, or none if it is optional.

use std::ffi::CString;
use std::fs;
use std::io;

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, openat, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change, mount_remount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::devices;
use super::job::{Failed, Reports};
use super::options::MountOptions;
use super::spec::{Mount, Spec};
use super::target::{MountTarget, Shape, StepRoot};
use crate::ids;

/// Mounts everything, and makes the spec's root the root of this mount namespace.
pub(super) fn mount_all(spec: &Spec, reports: &mut Reports) -> Result<(), Failed> {
    let path = spec.root.path.as_str();
    // The new root must be a mount point.
    mount_bind_recursive(path, path).map_err(Failed::to(format!("mount {path}")))?;
    // In a user namespace only mounted device nodes can be opened.
    let without_devices = if ids::current().is_none() { MountFlags::NODEV } else { MountFlags::empty() };
    if !without_devices.is_empty() {
        remount(path, without_devices).map_err(Failed::to("keep devices from the step"))?;
    }
    let root = StepRoot::open(path).map_err(Failed::to(format!("open {path}")))?;
    let mut furnishing = Mounter { root, without_devices, reports };
    for one in &spec.mounts {
        furnishing.mount(one).map_err(Failed::to(format!("mount {} at {}", one.source, one.destination)))?;
    }
    if spec.mounts.iter().any(|mount| mount.destination == "/dev" && mount.kind == "tmpfs") {
        if without_devices.is_empty() || !spec.linux.devices.is_empty() {
            devices::make(&furnishing.root, &spec.linux.devices, furnishing.reports)?;
        } else {
            let dev = devices::make_apart(&furnishing.root)?;
            furnishing.reflag(&dev, MountFlags::NODEV | MountFlags::NOSUID).map_err(Failed::to("protect /dev"))?;
        }
    }
    for path in &spec.linux.readonly_paths {
        furnishing.protect(path).map_err(Failed::to(format!("make {path} read-only")))?;
    }
    for path in &spec.linux.masked_paths {
        furnishing.mask(path).map_err(Failed::to(format!("hide {path}")))?;
    }
    enter(&furnishing.root).map_err(Failed::to(format!("change the root to {path}")))?;
    if spec.root.readonly {
        remount("/", MountFlags::RDONLY | without_devices).map_err(Failed::to("make the root read-only"))?;
    }
    Ok(())
}

/// Makes a mount the root, and unmounts the old one.
fn enter(root: &StepRoot) -> io::Result<()> {
    let old = openat(CWD, "/", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    fchdir(root.directory())?;
    // The old root is mounted on top of the new one (pivot_root(2)), so that it needs no mount point in it.
    pivot_root(".", ".")?;
    fchdir(&old)?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// The state of mounting in a root.
struct Mounter<'a> {
    root: StepRoot,
    /// Prevents access to devices that the step creates, if it can create any.
    without_devices: MountFlags,
    reports: &'a mut Reports,
}

impl Mounter<'_> {
    fn mount(&mut self, one: &Mount) -> io::Result<()> {
        let options = MountOptions::parse(&one.options);
        if let Some(recursive) = options.bind {
            return self.bind(&one.source, &one.destination, recursive, &options);
        }
        match one.kind.as_str() {
            "bind" => self.bind(&one.source, &one.destination, false, &options),
            "proc" | "sysfs" => self.mount_proc_or_sys(one, &options),
            "devpts" => self.mount_devpts(one, &options),
            "mqueue" => self.mount_optional(one, "mqueue", &options),
            "cgroup" | "cgroup2" => self.mount_optional(one, "cgroup2", &options),
            kind => self.filesystem(one, kind, &options, &options.data_without(None)),
        }
    }

    fn place(&mut self, destination: &str, shape: Shape) -> io::Result<MountTarget> {
        let path = self.root.follow(destination)?;
        if path.is_root() {
            return Err(io::Error::other("it leads to the root directory"));
        }
        self.root.at_or_made(path, shape, self.reports)
    }

    fn filesystem(&mut self, one: &Mount, kind: &str, options: &MountOptions, data: &str) -> io::Result<()> {
        let target = self.place(&one.destination, Shape::Directory)?;
        let data = CString::new(data)?;
        // The nodes in /dev are created before it gets its flags; only the kernel creates nodes in devpts.
        let has_devices = one.destination == "/dev" || kind == "devpts";
        let without = if has_devices { MountFlags::empty() } else { self.without_devices };
        mount(one.source.as_str(), target.name(), kind, options.flags | without, data.as_c_str())?;
        self.done(&target, options)
    }

    fn done(&mut self, target: &MountTarget, options: &MountOptions) -> io::Result<()> {
        self.root.has_mount(&target.path);
        let Some(flags) = options.propagation else { return Ok(()) };
        // The target is the file below the mount.
        let mounted = self.root.at(target.path.clone())?;
        Ok(mount_change(mounted.name(), flags)?)
    }

    /// Mounts `/proc` or `/sys`, or else binds the present one: the kernel refuses a new one if parts of the present
    /// one are hidden.
    fn mount_proc_or_sys(&mut self, one: &Mount, options: &MountOptions) -> io::Result<()> {
        let Err(error) = self.filesystem(one, &one.kind, options, &options.data_without(None)) else { return Ok(()) };
        if !is_refusal(&error) {
            return Err(error);
        }
        let (present, note) = match one.kind.as_str() {
            "proc" => ("/proc", Some("the step sees the processes outside: it cannot mount its own /proc here")),
            _ => ("/sys", None),
        };
        self.bind(present, &one.destination, true, options)?;
        note.into_iter().for_each(|note| self.reports.note(note));
        Ok(())
    }

    /// Mounts `/dev/pts`, or else binds the present one, or none.
    fn mount_devpts(&mut self, one: &Mount, options: &MountOptions) -> io::Result<()> {
        let data = [options.data_without(None), options.data_without(Some("gid"))];
        if data.iter().any(|data| self.filesystem(one, "devpts", options, data).is_ok()) {
            return Ok(());
        }
        let _ = self.bind("/dev/pts", &one.destination, false, options);
        Ok(())
    }

    /// Mounts an optional filesystem.
    fn mount_optional(&mut self, one: &Mount, kind: &str, options: &MountOptions) -> io::Result<()> {
        let is_unified = || fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
        // Version 1 has many hierarchies.
        if kind != "cgroup2" || is_unified() {
            let _ = self.filesystem(one, kind, options, "");
        }
        Ok(())
    }

    fn bind(&mut self, source: &str, destination: &str, recursive: bool, options: &MountOptions) -> io::Result<()> {
        let shape = if fs::metadata(source)?.is_dir() { Shape::Directory } else { Shape::File };
        let target = self.place(destination, shape)?;
        match recursive {
            true => mount_bind_recursive(source, target.name())?,
            false => mount_bind(source, target.name())?,
        }
        self.done(&target, options)?;
        // A mount from /dev is intended to be a device.
        let without = if source.starts_with("/dev/") { MountFlags::empty() } else { self.without_devices };
        let flags = options.flags | without;
        if flags.is_empty() { Ok(()) } else { self.reflag(&target, flags) }
    }

    /// Changes the flags of the mount at a target.
    fn reflag(&self, target: &MountTarget, flags: MountFlags) -> io::Result<()> {
        remount(&self.root.at(target.path.clone())?.name(), flags)
    }

    /// The target at a path, if it exists.
    fn present(&self, path: &str) -> io::Result<Option<MountTarget>> {
        match self.root.follow(path).and_then(|path| self.root.at(path)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a path read-only for the step.
    fn protect(&self, path: &str) -> io::Result<()> {
        let Some(target) = self.present(path)? else { return Ok(()) };
        mount_bind_recursive(target.name(), target.name())?;
        self.reflag(&target, MountFlags::RDONLY)
    }

    /// Masks a path: mounts an empty file on a file, and an empty directory on a directory.
    fn mask(&self, path: &str) -> io::Result<()> {
        let Some(target) = self.present(path)? else { return Ok(()) };
        if target.is_directory()? {
            Ok(mount("tmpfs", target.name(), "tmpfs", MountFlags::RDONLY, None)?)
        } else {
            Ok(mount_bind("/dev/null", target.name())?)
        }
    }
}

/// Sets flags of a mount. In a user namespace the flags of outer mounts cannot be removed (mount_namespaces(7)): they
/// stay.
fn remount(path: &str, flags: MountFlags) -> io::Result<()> {
    let set = |flags| mount_remount(path, MountFlags::BIND | flags, "");
    match set(flags) {
        Err(Errno::PERM) => Ok(set(flags | locked(path)?)?),
        other => Ok(other?),
    }
}

fn locked(path: &str) -> io::Result<MountFlags> {
    let present = statvfs(path)?.f_flag;
    let flags = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let set = flags.into_iter().filter(|(present_as, _)| present.contains(*present_as)).map(|(_, flag)| flag);
    Ok(set.fold(MountFlags::empty(), |all, flag| all | flag))
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::PERM | Errno::ACCESS | Errno::BUSY | Errno::INVAL))
}
