//! Owners, modes, times and extended attributes of files.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::fs::{FileType, lgetxattr, llistxattr, lsetxattr, mknodat, utimensat};
use rustix::fs::{chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat, futimens};
use rustix::io::{Errno, Result};

use super::error::{UnpackFault, cannot};
use super::{OwnerPolicy, Unpacked, XattrSpace};
use crate::entries::{TarEntry, Time};
use crate::owner::{self, OwnershipRecord, RecordedDevice};

/// Maximum lengths of the name and the value of an extended attribute (xattr(7)).
const MAX_XATTR_NAME: usize = 255;

/// The metadata of a file.
pub(crate) struct Attributes {
    pub(crate) mode: Mode,
    uid: Uid,
    gid: Gid,
    times: Timestamps,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Attributes {
    /// The attributes of an entry.
    pub(crate) fn of(entry: &mut TarEntry) -> std::result::Result<Self, UnpackFault> {
        let mut xattrs = std::mem::take(&mut entry.xattrs);
        xattrs.retain(|name, _| !is_never_in_layers(name));
        if let Some(name) = xattrs.keys().find(|name| !is_name(name)) {
            return Err(UnpackFault::Xattr(name.escape_ascii().to_string()));
        }
        Ok(Self {
            mode: Mode::from_raw_mode(entry.mode & 0o7777),
            uid: Uid::from_raw(owner(entry.uid)?),
            gid: Gid::from_raw(owner(entry.gid)?),
            times: at(entry.mtime),
            xattrs,
        })
    }

    /// Its approximate size in memory, in bytes.
    pub(crate) fn weight(&self) -> usize {
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64);
        xattrs.sum::<usize>() + size_of::<Self>()
    }

    /// Sets them on an open file or directory.
    pub(crate) fn set(
        &self,
        file: BorrowedFd<'_>,
        owners: OwnerPolicy,
        count: &mut Unpacked,
    ) -> std::result::Result<(), UnpackFault> {
        if owned(fchown(file, Some(self.uid), Some(self.gid)), owners)? == OwnerKept::No
            && !self.remember(file, None, owners)?
        {
            count.unkept_owners += 1;
        }
        // After the owner, because a change of the owner removes setuid bits and capabilities.
        fchmod(file, self.mode).map_err(cannot("set its mode"))?;
        for (name, value) in &self.xattrs {
            attributed(fsetxattr(file, name, value, XattrFlags::empty()), count)?;
        }
        futimens(file, &self.times).map_err(cannot("set its time"))
    }

    fn is_roots(&self) -> bool {
        self.uid.is_root() && self.gid.is_root()
    }

    /// Records owner and device of a regular file or directory, and returns whether they are recorded. Root's need no
    /// record.
    pub(crate) fn remember(
        &self,
        file: BorrowedFd<'_>,
        device: Option<RecordedDevice>,
        owners: OwnerPolicy,
    ) -> std::result::Result<bool, UnpackFault> {
        if owners != OwnerPolicy::Remembered || (self.is_roots() && device.is_none()) {
            return Ok(owners == OwnerPolicy::Remembered);
        }
        let remembered = OwnershipRecord { uid: self.uid.as_raw(), gid: self.gid.as_raw(), device }.to_string();
        match fsetxattr(file, owner::ATTRIBUTE, remembered.as_bytes(), XattrFlags::empty()) {
            Err(Errno::PERM | Errno::NOTSUP) => Ok(false),
            result => result.map(|()| true).map_err(cannot("record its owner")),
        }
    }

    /// Sets them on `name` in `directory`, which is a symbolic link, a fifo or a device.
    pub(crate) fn set_at(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        link: bool,
        owners: OwnerPolicy,
        count: &mut Unpacked,
    ) -> std::result::Result<(), UnpackFault> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let kept = owned(chownat(directory, name, Some(self.uid), Some(self.gid), nofollow), owners)?;
        if kept == OwnerKept::No && !(owners == OwnerPolicy::Remembered && self.is_roots()) {
            count.unkept_owners += 1;
        }
        if !link {
            chmodat(directory, name, self.mode, AtFlags::empty()).map_err(cannot("set its mode"))?;
        }
        // No system call with a directory argument exists before Linux 6.13 (setxattrat).
        let path = [format!("/proc/self/fd/{}/", directory.as_raw_fd()).as_bytes(), name].concat();
        for (name, value) in &self.xattrs {
            attributed(lsetxattr(&path, name, value, XattrFlags::empty()), count)?;
        }
        utimensat(directory, name, &self.times, nofollow).map_err(cannot("set its time"))
    }
}

#[derive(PartialEq, Eq)]
enum OwnerKept {
    Yes,
    No,
}

/// Sets the attributes of a directory without an entry: fixed values.
pub(crate) fn set_implied(directory: BorrowedFd<'_>) -> std::result::Result<(), UnpackFault> {
    fchmod(directory, Mode::from_raw_mode(0o755)).map_err(cannot("set its mode"))?;
    futimens(directory, &at(Time::default())).map_err(cannot("set its time"))
}

/// Copies the metadata of directory `from`, which was `new` before its content moved, to directory `to`, except for
/// attributes of the host. Ignores refusals of the system: they were counted when `from` was created, or the system set
/// the attribute itself.
pub(crate) fn copy(from: BorrowedFd<'_>, new: &Stat, to: BorrowedFd<'_>) -> Result<()> {
    let old = fstat(to)?;
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
        let owned = fchown(to, Some(Uid::from_raw(new.st_uid)), Some(Gid::from_raw(new.st_gid)));
        unless(owned, &[Errno::PERM, Errno::INVAL])?;
    }
    fchmod(to, Mode::from_raw_mode(new.st_mode & 0o7777))?;
    let (new_xattrs, old_xattrs) = (xattrs(from)?, xattrs(to)?);
    for name in old_xattrs.keys().filter(|name| !new_xattrs.contains_key(*name)) {
        unless(fremovexattr(to, name), &[Errno::PERM, Errno::NOTSUP])?;
    }
    for (name, value) in new_xattrs.iter().filter(|(name, value)| old_xattrs.get(*name) != Some(value)) {
        unless(fsetxattr(to, name, value, XattrFlags::empty()), &[Errno::PERM, Errno::NOTSUP])?;
    }
    futimens(to, &timestamps(new))
}

/// The result, except that these errors count as success.
fn unless(result: Result<()>, errors: &[Errno]) -> Result<()> {
    result.or_else(|error| if errors.contains(&error) { Ok(()) } else { Err(error) })
}

/// Its extended attributes, except those of the host.
fn xattrs(file: BorrowedFd<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let list = grown(|buffer| flistxattr(file, buffer));
    let mut xattrs = listed(list, |name| grown(|buffer| fgetxattr(file, name, buffer)))?;
    xattrs.retain(|name, _| !is_hosts_own(name));
    Ok(xattrs)
}

/// All extended attributes of the file at `path`, without following links.
pub(crate) fn xattrs_at(path: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let list = grown(|buffer| llistxattr(path, buffer));
    listed(list, |name| grown(|buffer| lgetxattr(path, name, buffer)))
}

fn listed(list: Result<Vec<u8>>, get: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let list = match list {
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        list => list?,
    };
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| Ok((name.to_vec(), get(name)?))).collect()
}

/// Calls `read` with a growing buffer.
fn grown(read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 1 << 10];
    loop {
        match read(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
        }
    }
}

/// The times of a file, for restoring them.
pub(crate) fn timestamps(stat: &Stat) -> Timestamps {
    let access = Timespec { tv_sec: stat.st_atime, tv_nsec: i64::try_from(stat.st_atime_nsec).unwrap_or(0) };
    Timestamps { last_access: access, last_modification: modified(stat) }
}

/// The modification time of a file.
pub(crate) fn modified(stat: &Stat) -> Timespec {
    Timespec { tv_sec: stat.st_mtime, tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// A time as the access and modification time of a file.
pub(crate) fn at(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn owner(id: u64) -> std::result::Result<u32, UnpackFault> {
    crate::owner::id(id).ok_or(UnpackFault::Owner(id))
}

fn owned(result: Result<()>, owners: OwnerPolicy) -> std::result::Result<OwnerKept, UnpackFault> {
    match result {
        // Without privileges, or with an owner that the user namespace does not map.
        Err(Errno::PERM | Errno::INVAL) if owners != OwnerPolicy::Kept => Ok(OwnerKept::No),
        result => result.map(|()| OwnerKept::Yes).map_err(cannot("set its owner")),
    }
}

fn attributed(result: Result<()>, count: &mut Unpacked) -> std::result::Result<(), UnpackFault> {
    match result {
        Err(Errno::PERM | Errno::NOTSUP) => {
            count.unkept_xattrs += 1;
            Ok(())
        }
        result => result.map_err(cannot("set its extended attributes")),
    }
}

/// The label of the host's SELinux policy.
pub(crate) const LABEL: &[u8] = b"security.selinux";

/// Whether an attribute belongs to the host and not to layers: overlayfs's own, and labels, which the host's policy
/// sets.
fn is_hosts_own(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") || name == LABEL
}

/// Whether an attribute is never part of a layer: the host's, and recorded owners.
pub(crate) fn is_never_in_layers(name: &[u8]) -> bool {
    is_hosts_own(name) || name.starts_with(b"user.fuseoverlayfs.") || name == owner::ATTRIBUTE.as_bytes()
}

fn is_name(name: &[u8]) -> bool {
    name.len() <= MAX_XATTR_NAME && !name.is_empty() && !name.contains(&0)
}

/// Creates a whiteout in overlayfs's form.
pub(crate) fn make_whiteout(directory: impl AsFd, name: &[u8]) -> Result<()> {
    mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Marks a directory as opaque in overlayfs's form.
pub(crate) fn make_opaque(directory: impl AsFd, space: XattrSpace) -> Result<()> {
    fsetxattr(directory, opaque(space), b"y", XattrFlags::empty())
}

fn opaque(space: XattrSpace) -> String {
    format!("{}overlay.opaque", space.prefix())
}

/// Whether a directory is marked as opaque in one of these namespaces.
pub(crate) fn is_opaque(directory: impl AsFd, spaces: &[XattrSpace]) -> bool {
    spaces.iter().any(|space| {
        let mut value = [0; 2];
        let length = fgetxattr(&directory, opaque(*space), &mut value);
        length.is_ok_and(|length| &value[..length] == b"y")
    })
}
