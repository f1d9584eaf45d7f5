//! The recorded ownership of files: in an attribute of the file if possible, otherwise in memory.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use ociforge_layers::owner::{ATTRIBUTE, FileIdentity, OwnershipRecord, OwnershipTable};
use rustix::fs::{
    self, AtFlags, CWD, FileType, Statx, StatxFlags, XattrFlags, readlinkat, removexattr, setxattr, statx,
};
use rustix::io::Errno;

use super::caller::{ProcPath, name_of};

/// The root of the step, which owns all files without a record.
pub(super) const ROOT: OwnershipRecord = OwnershipRecord { uid: 0, gid: 0, device: None };

/// Maximum number of records in memory.
const MOST: usize = 1 << 20;

/// A file that cannot have attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// In the directory that receives the step's writes.
    Written(FileIdentity),
    /// On another filesystem, by the numbers of its device.
    Elsewhere(u32, u32, FileIdentity),
}

/// All records.
#[derive(Debug)]
pub(super) struct OwnerRecords {
    /// The directory that receives the step's writes.
    files: OwnedFd,
    /// The id of the mount that shows it.
    mount: u64,
    records: BTreeMap<Key, OwnershipRecord>,
}

impl OwnerRecords {
    /// Empty records. The current root directory must be the step's.
    ///
    /// # Errors
    /// When the root directory does not exist.
    pub(super) fn new(files: OwnedFd) -> io::Result<Self> {
        let mount = statx(CWD, "/", AtFlags::empty(), StatxFlags::MNT_ID)?.stx_mnt_id;
        Ok(Self { files, mount, records: BTreeMap::new() })
    }

    /// The recorded ownership of a file, if any.
    pub(super) fn get(&self, place: &ProcPath) -> Option<OwnershipRecord> {
        let mut value = [0; 64];
        let found = if place.is_link_itself() {
            fs::lgetxattr(&place.path, ATTRIBUTE, &mut value)
        } else {
            fs::getxattr(&place.path, ATTRIBUTE, &mut value)
        };
        match found {
            Ok(length) => std::str::from_utf8(value.get(..length)?).ok()?.parse().ok(),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => None,
            Err(_) if self.records.is_empty() => None,
            Err(error) => self.recall(place, error),
        }
    }

    fn recall(&self, place: &ProcPath, error: Errno) -> Option<OwnershipRecord> {
        let seen = statx(CWD, &place.path, place.flags(), SEEN).ok()?;
        if error == Errno::NODATA && matches!(type_of(&seen), FileType::RegularFile | FileType::Directory) {
            return None;
        }
        let file = place.open().ok()?;
        self.records.get(&self.key(&file).ok()?).copied()
    }

    /// Records the ownership of an open file.
    ///
    /// # Errors
    /// Those of setxattr(2), `ENOSPC` when there are too many records in memory.
    pub(super) fn set(&mut self, file: &OwnedFd, record: OwnershipRecord) -> io::Result<()> {
        let name = name_of(file);
        let noted = match record == ROOT {
            true => removexattr(&name, ATTRIBUTE),
            false => setxattr(&name, ATTRIBUTE, record.to_string().as_bytes(), XattrFlags::empty()),
        };
        match noted {
            Ok(()) | Err(Errno::NODATA) if record != ROOT || self.records.is_empty() => return Ok(()),
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        let key = self.key(file)?;
        if record == ROOT {
            self.records.remove(&key);
        } else if self.records.len() < MOST || self.records.contains_key(&key) {
            self.records.insert(key, record);
        } else {
            return Err(Errno::NOSPC.into());
        }
        Ok(())
    }

    /// The records in memory of files that the step has written.
    pub(super) fn into_table(self) -> OwnershipTable {
        let written = self.records.into_iter().filter_map(|(key, record)| match key {
            Key::Written(identity) => Some((identity, record)),
            Key::Elsewhere(..) => None,
        });
        OwnershipTable(written.collect())
    }

    fn key(&self, file: &OwnedFd) -> io::Result<Key> {
        let seen = statx(file, "", AtFlags::EMPTY_PATH, SEEN)?;
        if seen.stx_mnt_id == self.mount
            && let Some(written) = self.written(file)
            && type_of(&written) == type_of(&seen)
        {
            return Ok(Key::Written(identity(&written)));
        }
        Ok(Key::Elsewhere(seen.stx_dev_major, seen.stx_dev_minor, identity(&seen)))
    }

    /// The file in the directory that receives the step's writes: an overlay may show another inode.
    fn written(&self, file: &OwnedFd) -> Option<Statx> {
        let path = readlinkat(CWD, name_of(file), Vec::new()).ok()?.into_bytes();
        let path = path.strip_prefix(b"/")?;
        statx(&self.files, path, AtFlags::SYMLINK_NOFOLLOW, SEEN).ok()
    }
}

/// The requested metadata of a file.
const SEEN: StatxFlags = StatxFlags::TYPE.union(StatxFlags::INO).union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

fn type_of(file: &Statx) -> FileType {
    FileType::from_raw_mode(file.stx_mode.into())
}

fn identity(file: &Statx) -> FileIdentity {
    FileIdentity { inode: file.stx_ino, born: (file.stx_btime.tv_sec, file.stx_btime.tv_nsec) }
}
