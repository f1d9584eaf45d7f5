//! Directories in which no link is followed.
//!
//! A layout may come from elsewhere, and what is called like one of its files may be a link that leads out of it, a named
//! pipe that nobody writes to, or a device. A [`Dir`] opens what is in it by single names, and only regular files and
//! directories: never through a symbolic link, and without waiting for anybody.

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

use super::temporary::TemporaryFile;
use crate::content::NotAllowed;

/// How directories are opened: who may go through one need not be allowed to list it.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// How files are opened. Without `NONBLOCK` a named pipe would wait for its other end.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A directory, open for as long as a clone of this lives.
#[derive(Debug, Clone)]
pub struct Dir {
    fd: Arc<OwnedFd>,
    /// Where it is below the one that was opened by its path; empty for that one.
    path: PathBuf,
}

/// What is known of a regular file by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Its length in bytes.
    pub size: u64,
    /// When its content changed last.
    pub modified: SystemTime,
    /// The file itself, whatever it is called: device and inode.
    identity: (u64, u64),
}

/// The directory that holds what `path` names: that of a bare file name, whose parent is empty, is `.`.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Dir {
    /// Opens the directory that `path` leads to. Links in `path` are followed: it is what the user has given.
    ///
    /// # Errors
    /// When there is none, or it can't be entered.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { fd: Arc::new(openat(CWD, path, DIRECTORY, Mode::empty())?), path: PathBuf::new() })
    }

    /// The same, made where it is missing, with all directories above it.
    ///
    /// # Errors
    /// When it can't be made or entered.
    pub fn create(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Self::open(path)
    }

    /// The directory that holds what `path` names, and its name there. It is made where it is missing.
    ///
    /// # Errors
    /// When it can't be made or entered, or `path` names nothing.
    pub fn holding(path: &Path) -> io::Result<(Self, &OsStr)> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok((Self::create(directory_of(path))?, name))
    }

    /// The directory `name` in this one.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub fn directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = single(name.as_ref())?;
        match openat(&*self.fd, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Self { fd: Arc::new(fd), path: self.path.join(name) }),
            Err(error) => Err(self.explained(name, FileType::Directory, error)),
        }
    }

    /// The directory `name` in this one, made where it is missing.
    ///
    /// # Errors
    /// When it can't be made, or something else is there.
    pub fn make_directory(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        let name = name.as_ref();
        match mkdirat(&*self.fd, single(name)?, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => self.directory(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the file `name` to be read.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub fn open_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::RDONLY)
    }

    /// Opens the file `name` to be read and written. One that has other names, too, is refused: they may be anywhere.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub fn edit_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::RDWR)
    }

    /// The same, made where it is missing.
    ///
    /// # Errors
    /// When it can't be made, or something else is there.
    pub fn make_file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        self.file(name.as_ref(), OFlags::RDWR | OFlags::CREATE)
    }

    /// Makes the file `name`, of this mode but for what the umask takes away.
    ///
    /// # Errors
    /// When it can't be made, or something is there.
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

    /// What is known of the file `name`; nothing where no regular file is.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn facts(&self, name: impl AsRef<OsStr>) -> io::Result<Option<FileFacts>> {
        let stat = self.stat(single(name.as_ref())?)?;
        Ok(stat.filter(|stat| FileType::from_raw_mode(stat.st_mode).is_file()).map(FileFacts::from))
    }

    /// Whether `name` is what `file` has open.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn has(&self, name: impl AsRef<OsStr>, file: &File) -> io::Result<bool> {
        let open = FileFacts::of(file)?;
        Ok(self.facts(name)?.is_some_and(|facts| facts.identity == open.identity))
    }

    /// Whether anything at all is called `name`.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn is_taken(&self, name: impl AsRef<OsStr>) -> io::Result<bool> {
        Ok(self.stat(single(name.as_ref())?)?.is_some())
    }

    /// Fails when `name` is something else than a directory (where `directory` is true) or a regular file.
    ///
    /// # Errors
    /// Then, and when that can't be found out.
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
    /// When it can't be listed.
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

    /// Makes the time of modification of `name` the present one. A link's own, not that of what it points to.
    ///
    /// # Errors
    /// When there is none, or it is somebody else's.
    pub fn touch(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        Ok(utimensat(&*self.fd, single(name.as_ref())?, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Calls what is `name` here `new` in the directory `to`, in place of what is there.
    ///
    /// # Errors
    /// When it can't be renamed.
    pub fn rename(&self, name: impl AsRef<OsStr>, to: &Self, new: impl AsRef<OsStr>) -> io::Result<()> {
        let new = new.as_ref();
        match renameat(&*self.fd, single(name.as_ref())?, &*to.fd, single(new)?) {
            Err(Errno::ISDIR) => Err(to.refused(new, FileType::RegularFile, kind(FileType::Directory))),
            renamed => Ok(renamed?),
        }
    }

    /// Gives the file `name` a second name here.
    ///
    /// # Errors
    /// When something has that name.
    pub fn link(&self, name: impl AsRef<OsStr>, new: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(linkat(&*self.fd, single(name.as_ref())?, &*self.fd, single(new.as_ref())?, AtFlags::empty())?)
    }

    /// Removes `name`, which is no directory.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&*self.fd, single(name.as_ref())?, AtFlags::empty())?)
    }

    /// Removes the directory `name`, which is empty.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove_directory(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(unlinkat(&*self.fd, single(name.as_ref())?, AtFlags::REMOVEDIR)?)
    }

    /// A file that has no name of its own yet.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn temporary(&self) -> io::Result<TemporaryFile> {
        TemporaryFile::new(self)
    }

    /// Writes a small file whole, in place of what is there: into a temporary file first. With `durable` its bytes are on
    /// disk before it is there, so that a crash of the machine leaves the old file or the new one.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn write(&self, name: impl AsRef<OsStr>, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut temporary = self.temporary()?;
        io::Write::write_all(temporary.file(), bytes)?;
        if durable {
            temporary.file().sync_data()?;
        }
        temporary.persist(name)
    }

    /// Sees to it that the names in this directory are on disk.
    ///
    /// # Errors
    /// When it can't be done.
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

    /// The error, or what there is in the place of what was `wanted`.
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
    /// What is known of a file that is open.
    ///
    /// # Errors
    /// When that can't be found out.
    pub fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let modified = since_1970(metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { size: metadata.len(), modified, identity: (metadata.dev(), metadata.ino()) })
    }

    /// Whether nobody has changed it since `before`.
    #[must_use]
    pub fn is_older(&self, before: SystemTime) -> bool {
        self.modified <= before
    }
}

/// What there is, or nothing where it is not found.
pub(super) fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// What in a directory is called by a digest of this algorithm, and its name there.
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

/// A time, or 1970: of what lies before nobody asks more than that it is old.
fn since_1970(seconds: i64, nanoseconds: i64) -> SystemTime {
    let since = u64::try_from(seconds).map(|seconds| (seconds, u32::try_from(nanoseconds).unwrap_or(0)));
    let (seconds, nanoseconds) = since.unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

/// One name, of which no path can be made.
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
