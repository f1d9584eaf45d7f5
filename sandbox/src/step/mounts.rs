//! What the step sees: its root, and what the spec mounts in it (runtime-spec, config.md, "Mounts").
//!
//! A runner of continuous integration is often a container itself, in which not everything can be mounted anew. There
//! the step gets the container's own, or nothing where it can do without.

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
pub(super) fn furnish(spec: &Spec, reports: &mut Reports) -> Result<(), Failed> {
    let path = spec.root.path.as_str();
    // What becomes the root has to be a mount.
    mount_bind_recursive(path, path).map_err(Failed::to(format!("mount {path}")))?;
    // In a user namespace no device can be opened anyway but those that are mounted.
    let without_devices = if ids::current().is_none() { MountFlags::NODEV } else { MountFlags::empty() };
    if !without_devices.is_empty() {
        remount(path, without_devices).map_err(Failed::to("keep devices from the step"))?;
    }
    let root = StepRoot::open(path).map_err(Failed::to(format!("open {path}")))?;
    let mut furnishing = Furnishing { root, without_devices, reports };
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

/// Makes a mount the root, and takes the old one away.
fn enter(root: &StepRoot) -> io::Result<()> {
    let old = openat(CWD, "/", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    fchdir(root.directory())?;
    // The old root comes to lie on the new one (pivot_root(2)), so that it needs no place in it.
    pivot_root(".", ".")?;
    fchdir(&old)?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// The work on a root.
struct Furnishing<'a> {
    root: StepRoot,
    /// What keeps the step from devices that it makes: it may make any.
    without_devices: MountFlags,
    reports: &'a mut Reports,
}

impl Furnishing<'_> {
    fn mount(&mut self, one: &Mount) -> io::Result<()> {
        let options = MountOptions::parse(&one.options);
        if let Some(recursive) = options.bind {
            return self.bind(&one.source, &one.destination, recursive, &options);
        }
        match one.kind.as_str() {
            "bind" => self.bind(&one.source, &one.destination, false, &options),
            "proc" | "sysfs" => self.view(one, &options),
            "devpts" => self.terminals(one, &options),
            "mqueue" => self.perhaps(one, "mqueue", &options),
            "cgroup" | "cgroup2" => self.perhaps(one, "cgroup2", &options),
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
        // The devices of /dev are made before it is protected; those of devpts only the kernel makes.
        let has_devices = one.destination == "/dev" || kind == "devpts";
        let without = if has_devices { MountFlags::empty() } else { self.without_devices };
        mount(one.source.as_str(), target.name(), kind, options.flags | without, data.as_c_str())?;
        self.done(&target, options)
    }

    fn done(&mut self, target: &MountTarget, options: &MountOptions) -> io::Result<()> {
        self.root.has_mount(&target.path);
        let Some(flags) = options.propagation else { return Ok(()) };
        // The target is what was there before.
        let mounted = self.root.at(target.path.clone())?;
        Ok(mount_change(mounted.name(), flags)?)
    }

    /// `/proc` or `/sys`, or else the present one: the kernel refuses a new one where parts of the present are hidden.
    fn view(&mut self, one: &Mount, options: &MountOptions) -> io::Result<()> {
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

    /// `/dev/pts`, or else the present one, or none.
    fn terminals(&mut self, one: &Mount, options: &MountOptions) -> io::Result<()> {
        let data = [options.data_without(None), options.data_without(Some("gid"))];
        if data.iter().any(|data| self.filesystem(one, "devpts", options, data).is_ok()) {
            return Ok(());
        }
        let _ = self.bind("/dev/pts", &one.destination, false, options);
        Ok(())
    }

    /// What the step can do without.
    fn perhaps(&mut self, one: &Mount, kind: &str, options: &MountOptions) -> io::Result<()> {
        let is_unified = || fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok();
        // Those of version 1 are many.
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
        // What is mounted from there is meant to be a device.
        let without = if source.starts_with("/dev/") { MountFlags::empty() } else { self.without_devices };
        let flags = options.flags | without;
        if flags.is_empty() { Ok(()) } else { self.reflag(&target, flags) }
    }

    /// Changes the flags of what is mounted on a place.
    fn reflag(&self, target: &MountTarget, flags: MountFlags) -> io::Result<()> {
        remount(&self.root.at(target.path.clone())?.name(), flags)
    }

    /// What is at a path, unless nothing is.
    fn present(&self, path: &str) -> io::Result<Option<MountTarget>> {
        match self.root.follow(path).and_then(|path| self.root.at(path)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lets the step read what is at a path, but not write.
    fn protect(&self, path: &str) -> io::Result<()> {
        let Some(target) = self.present(path)? else { return Ok(()) };
        mount_bind_recursive(target.name(), target.name())?;
        self.reflag(&target, MountFlags::RDONLY)
    }

    /// Hides what is at a path: a file behind an empty one, a directory behind an empty one.
    fn mask(&self, path: &str) -> io::Result<()> {
        let Some(target) = self.present(path)? else { return Ok(()) };
        if target.is_directory()? {
            Ok(mount("tmpfs", target.name(), "tmpfs", MountFlags::RDONLY, None)?)
        } else {
            Ok(mount_bind("/dev/null", target.name())?)
        }
    }
}

/// Sets flags of a mount. Those that it has from outside cannot be taken off in a user namespace (mount_namespaces(7)):
/// they stay.
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
