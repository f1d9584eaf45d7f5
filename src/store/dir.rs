//! Directories without symbolic links.
//!
//! A layout is not trusted: one of its files may be a link that leads out of it, a named pipe without a writer, or a
//! device. A [`Dir`] opens its entries by single names, and only regular files and directories: it never follows a
//! symbolic link and never blocks.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ociforge_manifests::Digest;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, linkat, mkdirat, openat, renameat,
    statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::temporary::TemporaryFile;
use crate::content::NotAllowed;

/// The flags for opening directories: search permission is enough, read permission is not needed.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// The flags for opening files. Without `NONBLOCK` a named pipe would wait for its other end.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// An open directory, shared by its clones.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    /// Its path below the directory that was opened by path; empty for that directory.
    path: PathBuf,
}

/// The metadata of a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its length in bytes.
    pub size: u64,
    /// The time of its last modification.
    pub modified: SystemTime,
    /// Device and inode.
    pub(super) identity: (u64, u64),
}

/// The parent directory of `path`; `.` for a bare file name.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Dir {
    /// Opens the directory at `path`. Links in `path` are followed: the user gave it.
    ///
    /// # Errors
    /// When it does not exist or cannot be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: Arc::new(openat(CWD, path, DIRECTORY, Mode::empty())?), path: PathBuf::new() })
    }

    /// As [`Self::open`], and creates the directory and its parents if they are missing.
    ///
    /// # Errors
    /// When it cannot be created or entered.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Self::open(path)
    }

    /// The parent directory of `path`, and the name in it. The directory is created if it is missing.
    ///
    /// # Errors
    /// When it cannot be created or entered, or `path` has no file name.
    pub fn holding(path: &Path) -> io::Result<(Self, &OsStr)> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok((Self::create(directory_of(path))?, name))
    }

    /// The directory `name` in this one.
    ///
    /// # Errors
    /// When it does not exist or has another type.
    pub fn directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = single(name.as_ref())?;
        match openat(&*self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self { fd: Arc::new(fd), path: self.path.join(name) }),
            Err(error) => Err(self.explained(name, FileType::Directory, error)),
        }
    }

    /// The directory `name` in this one, created if it is missing.
    ///
    /// # Errors
    /// When it cannot be created, or the name has another type.
    pub fn make_directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = name.as_ref();
        match mkdirat(&*self.fd, single(name)?, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.directory(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file `name` for reading.
    ///
    /// # Errors
    /// When it does not exist or has another type.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::RDONLY)
    }

    /// Opens the file `name` for reading and writing. A file with several hard links is refused: the other names may be
    /// anywhere.
    ///
    /// # Errors
    /// When it does not exist or has another type.
    pub fn edit_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::RDWR)
    }

    /// As before, and creates the file if it is missing.
    ///
    /// # Errors
    /// When it cannot be created, or the name has another type.
    pub fn make_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::RDWR | OFlags::CREATE)
    }

    /// Creates the file `name` with this mode, subject to the umask.
    ///
    /// # Errors
    /// When it cannot be created, or the name exists.
    pub fn new_file(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        Ok(openat(&*self.fd, single(name.as_ref())?, FILE | flags, Mode::from_raw_mode(mode))?.into())
    }

    fn file(&self, name: &OsStr, flags: OFlags) -> io::Result<File> {
        let file: File = match openat(&*self.fd, single(name)?, FILE | flags, Mode::from_raw_mode(0o666)) {
            Ok(fd) => fd.into(),
            Err(error) => return Err(self.explained(name, FileType::RegularFile, error)),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(self.refused(name, FileType::RegularFile, kind(FileType::from_raw_mode(metadata.mode()))));
        }
        if flags.contains(OFlags::RDWR) && metadata.nlink() > 1 {
            return Err(self.refused(name, FileType::RegularFile, "a file with several names (hard links)"));
        }
        Ok(file)
    }

    /// The metadata of the file `name`; `None` if it is not a regular file.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub fn facts(&self, name: impl AsRef<OsStr>) -> io::Result<Option<FileFacts>> {
        let stat = self.stat(single(name.as_ref())?)?;
        Ok(stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file()).map(FileFacts::from))
    }

    /// Whether `name` is the open `file`.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub fn has(&self, name: impl AsRef<OsStr>, file: &File) -> io::Result<bool> {
        let open = FileFacts::of(file)?;
        Ok(self.facts(name)?.is_some_and(|facts| facts.identity == open.identity))
    }

    /// Whether `name` exists, with any type.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub fn is_taken(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        Ok(self.stat(single(name.as_ref())?)?.is_some())
    }

    /// Fails if `name` exists and is not a directory (if `directory` is true) or a regular file.
    ///
    /// # Errors
    /// When it has another type, or its metadata cannot be read.
    pub fn expect(&self, name: impl AsRef<OsStr>, directory: bool) -> io::Result<()> {
        let name = single(name.as_ref())?;
        let wanted = if directory { FileType::Directory } else { FileType::RegularFile };
        match self.stat(name)?.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Some(is) if is != wanted => Err(self.refused(name, wanted, kind(is))),
            _ => Ok(()),
        }
    }

    /// The names in this directory, sorted.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(self.readable()?)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Sets the modification time of `name` to now. A link is not followed.
    ///
    /// # Errors
    /// When it does not exist or belongs to another user.
    pub fn touch(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        Ok(utimensat(&*self.fd, single(name.as_ref())?, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Renames `name` to `new` in the directory `to`, and replaces an existing file.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn rename(&self, name: impl AsRef<OsStr>, to: &Self, new: impl AsRef<OsStr>) -> io::Result<()> {
        let new = new.as_ref();
        match renameat(&*self.fd, single(name.as_ref())?, &*to.fd, single(new)?) {
            Err(Errno::ISDIR) => Err(to.refused(new, FileType::RegularFile, kind(FileType::Directory))),
            renamed => Ok(renamed?),
        }
    }

    /// Creates a hard link to the file `name` in this directory.
    ///
    /// # Errors
    /// When the name exists.
    pub fn link(&self, name: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(linkat(&*self.fd, single(name.as_ref())?, &*self.fd, single(new.as_ref())?, AtFlags::empty())?)
    }

    /// Removes `name`, which is not a directory.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&*self.fd, single(name.as_ref())?, AtFlags::empty())?)
    }

    /// Removes the empty directory `name`.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_directory(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&*self.fd, single(name.as_ref())?, AtFlags::REMOVEDIR)?)
    }

    /// Creates a temporary file.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn temporary(&self) -> io::Result<TemporaryFile> {
        TemporaryFile::new(self)
    }

    /// Writes a small file atomically, and replaces an existing one. With `durable` its bytes are on disk before the
    /// rename, so that a crash of the machine leaves the old file or the new one.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, name: impl AsRef<OsStr>, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut temporary = self.temporary()?;
        io::Write::write_all(temporary.file(), bytes)?;
        if durable {
            temporary.file().sync_data()?;
        }
        temporary.persist(name)
    }

    /// Flushes the names in this directory to the disk.
    ///
    /// # Errors
    /// When the system returns an error.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.readable()?)?)
    }

    fn readable(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(openat(&*self.fd, ".", flags, Mode::empty())?)
    }

    fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The error, or a [`NotAllowed`] error if the file has another type than `wanted`.
    fn explained(&self, name: &OsStr, wanted: FileType, error: Errno) -> io::Error {
        match self.stat(name).map(|stat| stat.map(|stat| FileType::from_raw_mode(stat.st_mode))) {
            Ok(Some(is)) if is != wanted => self.refused(name, wanted, kind(is)),
            _ => error.into(),
        }
    }

    fn refused(&self, name: &OsStr, wanted: FileType, is: &'static str) -> io::Error {
        let wanted = if wanted == FileType::Directory { "a directory" } else { "a regular file" };
        io::Error::other(NotAllowed { path: self.path.join(name), is, wanted })
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl FileFacts {
    /// The metadata of an open file.
    ///
    /// # Errors
    /// When the metadata cannot be read.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let modified = since_1970(metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { size: metadata.len(), modified, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Whether it is unchanged since `before`.
    #[must_use]
    pub fn is_older(&self, before: SystemTime) -> bool {
        self.modified <= before
    }
}

/// The value, or `None` if the file is not found.
pub(crate) fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// The digests of this algorithm among the names in a directory, with the names.
pub(super) fn digests(algorithm: &str, directory: &Dir) -> io::Result<Vec<(Digest, String)>> {
    let names = directory.names()?.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names.filter_map(|name| Some((format!("{algorithm}:{name}").parse().ok()?, name))).collect())
}

impl From<Stat> for FileFacts {
    fn from(stat: Stat) -> Self {
        let modified = since_1970(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Self { size, modified, identity: (stat.st_dev, stat.st_ino) }
    }
}

/// The time, or 1970 for an earlier time, which is old in every comparison.
pub(super) fn since_1970(seconds: i64, nanoseconds: i64) -> SystemTime {
    let since = u64::try_from(seconds).map(|seconds| (seconds, u32::try_from(nanoseconds).unwrap_or(0)));
    let (seconds, nanoseconds) = since.unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

/// A single name without a slash.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    let is_name = !name.is_empty() && name != "." && name != ".." && !name.as_bytes().contains(&b'/');
    if is_name { Ok(name) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a named pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "something unknown",
    }
}

#[cfg(test)]
mod tests;
