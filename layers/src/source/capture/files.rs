//! Capture of files on disk as entries of a tree.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, StatxFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::fs::{lremovexattr, major, minor, readlinkat, statx, unlinkat, utimensat};
use rustix::io::Errno;

use super::{CaptureError, CaptureOptions};
use crate::owner::{self, FileIdentity, OwnershipRecord, RecordedDevice};
use crate::path::{LayerPath, MAX_PATH};
use crate::tree::{Content, LayerTree, Metadata, NodeKind, TreeNode};
use crate::unpack::XattrSpace;
use crate::unpack::metadata;
use crate::unpack::root::{self, OpenDirectory, RootDirectory};
use crate::whiteout::{self, Meaning};

/// A directory that is walked, and its captured entries.
pub(in crate::source) struct Files<'a> {
    top: &'a Path,
    pub(in crate::source) root: RootDirectory,
    options: CaptureOptions<'a>,
    marks: Marks,
    tree: LayerTree,
    /// Files with several names, by inode.
    linked: BTreeMap<u64, (TreeNode, Vec<LayerPath>)>,
    /// Unchanged directories: they become entries only as parents of other entries.
    unchanged: BTreeMap<LayerPath, Metadata>,
}

/// The extended attributes of an overlay filesystem, which have a meaning but are not part of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) enum Marks {
    /// Those of overlayfs in this namespace.
    Overlay(XattrSpace),
    /// Those of fuse-overlayfs, which uses several namespaces.
    Fuse,
    /// No overlay.
    None,
}

impl Marks {
    fn has(self, name: &[u8]) -> bool {
        match self {
            Self::Overlay(space) => {
                let own = name.strip_prefix(space.prefix().as_bytes()).and_then(|name| name.strip_prefix(b"overlay."));
                // An attribute that a step sets through the overlay has this prefix twice.
                own.is_some_and(|name| !name.starts_with(b"overlay."))
            }
            Self::Fuse => true,
            Self::None => false,
        }
    }
}

/// An entry of any type in an open directory.
pub(in crate::source) struct CapturedFile<'a> {
    pub(in crate::source) directory: BorrowedFd<'a>,
    pub(in crate::source) name: &'a [u8],
    /// Its path in the layer.
    pub(in crate::source) path: LayerPath,
    pub(in crate::source) stat: Stat,
    pub(in crate::source) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<'a> CapturedFile<'a> {
    /// The entry `name`, `.` for the directory itself; `None` if it does not exist.
    pub(in crate::source) fn new(
        directory: BorrowedFd<'a>,
        name: &'a [u8],
        path: LayerPath,
    ) -> Result<Option<Self>, CaptureError> {
        let Some(stat) = root::stat(directory, name).map_err(cannot(STAT, &path))? else { return Ok(None) };
        let mut found = Self { directory, name, path, stat, xattrs: BTreeMap::new() };
        let xattrs = metadata::xattrs_at(&found.place());
        found.xattrs = xattrs.map_err(cannot("read an extended attribute", &found.path))?;
        Ok(Some(found))
    }

    /// A path for system calls without a directory argument (listxattrat needs Linux 6.13).
    fn place(&self) -> Vec<u8> {
        [format!("/proc/self/fd/{}/", self.directory.as_raw_fd()).as_bytes(), self.name].concat()
    }

    pub(in crate::source) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(in crate::source) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// The identity among all files that had this name.
    pub(in crate::source) fn identity(&self) -> Result<FileIdentity, CaptureError> {
        let inode = self.stat.st_ino;
        match statx(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME) {
            Ok(found) if StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME) => {
                Ok(FileIdentity { inode, born: (found.stx_btime.tv_sec, found.stx_btime.tv_nsec) })
            }
            Ok(_) | Err(Errno::NOSYS) => Ok(FileIdentity { inode, born: (0, 0) }),
            Err(error) => Err(cannot(STAT, &self.path)(error)),
        }
    }

    /// The recorded ownership.
    fn remembered(&self, table: &owner::OwnershipTable) -> Result<OwnershipRecord, CaptureError> {
        let root = OwnershipRecord { uid: 0, gid: 0, device: None };
        match (self.kind(), self.xattrs.get(owner::ATTRIBUTE.as_bytes())) {
            (FileType::RegularFile | FileType::Directory, Some(text)) => String::from_utf8_lossy(text)
                .parse()
                .map_err(|source| CaptureError::Owner { path: self.path.clone(), source }),
            (FileType::RegularFile | FileType::Directory, None) => Ok(root),
            _ if table.0.is_empty() => Ok(root),
            _ => Ok(table.0.get(&self.identity()?).copied().unwrap_or(root)),
        }
    }

    /// The metadata in the layer, and the device that the file represents.
    pub(in crate::source) fn metadata(
        &self,
        options: &CaptureOptions<'_>,
    ) -> Result<(Metadata, Option<RecordedDevice>), CaptureError> {
        let Stat { st_uid: uid, st_gid: gid, .. } = self.stat;
        let remembered = options.owners.map(|table| self.remembered(table)).transpose()?;
        let OwnershipRecord { uid, gid, device } = remembered.unwrap_or(OwnershipRecord { uid, gid, device: None });
        let mut xattrs = self.xattrs.clone();
        xattrs.retain(|name, _| !metadata::is_never_in_layers(name));
        if let Some(name) = xattrs.keys().find(|name| name.contains(&b'=')) {
            let name = String::from_utf8_lossy(name).into_owned();
            return Err(CaptureError::Attribute { path: self.path.clone(), name });
        }
        // The mode of a link depends on the system and has no effect.
        let mode = if self.kind() == FileType::Symlink { 0o777 } else { self.stat.st_mode & 0o7777 };
        let mtime = self.stat.st_mtime.min(options.latest);
        Ok((Metadata { mode, uid: uid.into(), gid: gid.into(), mtime, xattrs }, device))
    }
}

const STAT: &str = "read the attributes";

impl<'a> Files<'a> {
    /// An empty capture of the directory `top`, from which the empty mount points are removed.
    pub(in crate::source) fn new(
        top: &'a Path,
        options: CaptureOptions<'a>,
        marks: Marks,
    ) -> Result<Self, CaptureError> {
        let root = open(top)?;
        for path in options.made.iter().rev() {
            remove_if_empty(&root, path).map_err(cannot("remove a mount point", path))?;
        }
        Ok(Self {
            top,
            root,
            options,
            marks,
            tree: LayerTree::new(),
            linked: BTreeMap::new(),
            unchanged: BTreeMap::new(),
        })
    }

    /// The directory at `path`, and its sorted names.
    pub(in crate::source) fn enter(&self, path: &LayerPath) -> Result<(OpenDirectory, Vec<Vec<u8>>), CaptureError> {
        if (self.options.cancelled)() {
            return Err(CaptureError::Cancelled);
        }
        let open = || {
            let fd = self.root.directory(path.as_bytes())?;
            let names = root::names(&fd)?;
            Ok((OpenDirectory { fd, path: path.clone() }, names))
        };
        open().map_err(cannot("read a directory", path))
    }

    /// The path of `name` in a directory; an error if it is not valid in a layer.
    pub(in crate::source) fn path(&self, directory: &LayerPath, name: &[u8]) -> Result<LayerPath, CaptureError> {
        let path = directory.join(name)?;
        let whole = self.top.as_os_str().len() + path.as_bytes().len() + 2;
        if root::check(&path).is_err() || whole > MAX_PATH {
            return Err(CaptureError::TooLong(path));
        }
        Ok(path)
    }

    /// Captures a directory without its content.
    pub(in crate::source) fn directory(&mut self, found: &CapturedFile<'_>, opaque: bool) -> Result<(), CaptureError> {
        let (metadata, _) = found.metadata(&self.options)?;
        self.strip(found)?;
        self.settle_time(found)?;
        self.insert(found.path.clone(), TreeNode { metadata, kind: NodeKind::Directory { opaque } })
    }

    /// Captures a directory unless it equals `old` except for its time; in that case the time of `old` is restored.
    pub(in crate::source) fn directory_over(
        &mut self,
        found: &CapturedFile<'_>,
        old: Option<&CapturedFile<'_>>,
    ) -> Result<(), CaptureError> {
        let Some(old) = old else { return self.directory(found, false) };
        let (was, _) = old.metadata(&self.options)?;
        self.directory_since(found, &was, metadata::modified(&old.stat))
    }

    /// The same, for a directory that had this metadata and this time.
    pub(in crate::source) fn directory_since(
        &mut self,
        found: &CapturedFile<'_>,
        was: &Metadata,
        time: Timespec,
    ) -> Result<(), CaptureError> {
        let (is, _) = found.metadata(&self.options)?;
        if (Metadata { mtime: is.mtime, ..was.clone() }) != is {
            return self.directory(found, false);
        }
        self.strip(found)?;
        self.unchanged.insert(found.path.clone(), Metadata { mtime: time.tv_sec, ..is });
        if metadata::modified(&found.stat) == time { Ok(()) } else { self.set_time(found, time) }
    }

    /// Captures a file that is not a directory. `below` says whether the layers below have an entry at its path.
    pub(in crate::source) fn file(&mut self, found: &CapturedFile<'_>, below: bool) -> Result<(), CaptureError> {
        let (metadata, device) = found.metadata(&self.options)?;
        let Some(kind) = self.kind(found, device)? else { return self.socket(found, below) };
        self.strip(found)?;
        self.settle_time(found)?;
        let node = TreeNode { metadata, kind };
        if found.stat.st_nlink == 1 {
            return self.insert(found.path.clone(), node);
        }
        check_name(&found.path)?;
        let (_, names) = self.linked.entry(found.stat.st_ino).or_insert_with(|| (node, Vec::new()));
        names.push(found.path.clone());
        Ok(())
    }

    /// Adds a whiteout for the entry of lower layers at `path`.
    pub(in crate::source) fn whiteout(&mut self, path: LayerPath) -> Result<(), CaptureError> {
        self.insert(path, TreeNode { metadata: Metadata::root(0, 0), kind: NodeKind::Whiteout })
    }

    /// The kind of the entry; `None` for a socket.
    fn kind(&self, found: &CapturedFile<'_>, device: Option<RecordedDevice>) -> Result<Option<NodeKind>, CaptureError> {
        let Stat { st_rdev: number, st_size, .. } = found.stat;
        Ok(Some(match (found.kind(), device) {
            (FileType::RegularFile, Some(RecordedDevice { block: false, major, minor })) => {
                NodeKind::CharDevice { major, minor }
            }
            (FileType::RegularFile, Some(RecordedDevice { block: true, major, minor })) => {
                NodeKind::BlockDevice { major, minor }
            }
            (FileType::RegularFile, None) => NodeKind::File(match u64::try_from(st_size).unwrap_or(0) {
                0 => Content::Bytes(Vec::new()),
                len => Content::Path { path: self.top.join(found.path.as_path()), len },
            }),
            (FileType::Symlink, _) => {
                let target = readlinkat(found.directory, found.name, Vec::new());
                NodeKind::Symlink(target.map_err(cannot("read a symbolic link", &found.path))?.into_bytes())
            }
            (FileType::Fifo, _) => NodeKind::Fifo,
            (FileType::CharacterDevice, _) => NodeKind::CharDevice { major: major(number), minor: minor(number) },
            (FileType::BlockDevice, _) => NodeKind::BlockDevice { major: major(number), minor: minor(number) },
            _ => return Ok(None),
        }))
    }

    /// Handles a socket, which layers cannot have: removes it from the disk, and adds a whiteout for the entry below
    /// it.
    fn socket(&mut self, found: &CapturedFile<'_>, below: bool) -> Result<(), CaptureError> {
        let remove = || {
            let before = root::stat(found.directory, b".")?;
            unlinkat(found.directory, found.name, AtFlags::empty())?;
            if below {
                metadata::make_whiteout(found.directory, found.name)?;
            }
            let times = before.map(|stat| metadata::timestamps(&stat));
            times.map_or(Ok(()), |times| rustix::fs::futimens(found.directory, &times))
        };
        remove().map_err(cannot("remove a socket", &found.path))?;
        if below { self.whiteout(found.path.clone()) } else { Ok(()) }
    }

    /// Removes the extended attributes on disk that are not part of the layer: later steps would see them, and an
    /// attribute that the step forged would act as overlayfs's own.
    fn strip(&self, found: &CapturedFile<'_>) -> Result<(), CaptureError> {
        let remembers = self.options.owners.is_some();
        let means = |name: &[u8]| self.marks.has(name) || (remembers && name == owner::ATTRIBUTE.as_bytes());
        let names = found.xattrs.keys().filter(|name| metadata::is_never_in_layers(name));
        for name in names.filter(|name| !means(name) && **name != metadata::LABEL) {
            let place = found.place();
            lremovexattr(&place[..], &name[..]).map_err(cannot("remove an extended attribute", &found.path))?;
        }
        Ok(())
    }

    /// Sets the time of a file on disk to that in the layer.
    fn settle_time(&self, found: &CapturedFile<'_>) -> Result<(), CaptureError> {
        let Stat { st_mtime: seconds, st_mtime_nsec: nanoseconds, .. } = found.stat;
        if seconds <= self.options.latest && nanoseconds == 0 {
            return Ok(());
        }
        self.set_time(found, Timespec { tv_sec: seconds.min(self.options.latest), tv_nsec: 0 })
    }

    /// Sets the modification time of a file.
    pub(in crate::source) fn set_time(&self, found: &CapturedFile<'_>, time: Timespec) -> Result<(), CaptureError> {
        let times = Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: time };
        utimensat(found.directory, found.name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(cannot("set the time", &found.path))
    }

    fn insert(&mut self, path: LayerPath, node: TreeNode) -> Result<(), CaptureError> {
        check_name(&path)?;
        Ok(self.tree.insert(path, node)?)
    }

    /// All captured entries, with their parent directories.
    pub(in crate::source) fn finish(mut self) -> Result<LayerTree, CaptureError> {
        for (node, mut names) in std::mem::take(&mut self.linked).into_values() {
            names.sort_unstable();
            let (metadata, mut names) = (node.metadata.clone(), names.into_iter());
            let Some(first) = names.next() else { continue };
            self.tree.insert(first.clone(), node)?;
            for name in names {
                let kind = NodeKind::Hardlink(first.clone());
                self.tree.insert(name, TreeNode { metadata: metadata.clone(), kind })?;
            }
        }
        for path in self.options.restored {
            self.tree.remove(path);
        }
        let entries: Vec<LayerPath> = self.tree.iter().map(|(path, _)| path.clone()).collect();
        for above in entries.iter().flat_map(LayerPath::ancestors) {
            if let Some(metadata) = self.unchanged.remove(&above) {
                self.tree.insert(above, TreeNode { metadata, kind: NodeKind::Directory { opaque: false } })?;
            }
        }
        Ok(self.tree)
    }
}

/// Refuses a name with a special meaning in layers.
fn check_name(path: &LayerPath) -> Result<(), CaptureError> {
    match whiteout::read(path.clone()) {
        Ok(Meaning::Entry(_)) => Ok(()),
        _ => Err(CaptureError::Whiteout(path.clone())),
    }
}

fn remove_if_empty(root: &RootDirectory, path: &LayerPath) -> rustix::io::Result<()> {
    let parent = match root.directory(path.parent().unwrap_or_default().as_bytes()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        parent => parent?,
    };
    let Some(stat) = root::stat(parent.as_fd(), path.file_name())? else { return Ok(()) };
    let removed = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => unlinkat(&parent, path.file_name(), AtFlags::REMOVEDIR),
        FileType::RegularFile if stat.st_size == 0 => unlinkat(&parent, path.file_name(), AtFlags::empty()),
        // Not a whiteout: a device for a step without its own mounts.
        FileType::CharacterDevice if stat.st_rdev != 0 => unlinkat(&parent, path.file_name(), AtFlags::empty()),
        _ => Ok(()),
    };
    // A mount point with files of the step stays.
    if removed == Err(Errno::NOTEMPTY) { Ok(()) } else { removed }
}

/// Opens a directory given by the caller.
pub(in crate::source) fn open(path: &Path) -> Result<RootDirectory, CaptureError> {
    RootDirectory::open(path).map_err(|error| CaptureError::Directory { path: path.to_owned(), source: error.into() })
}

/// For `map_err` of the operation `what` at `path`.
pub(in crate::source) fn cannot(what: &'static str, path: &LayerPath) -> impl FnOnce(Errno) -> CaptureError {
    move |error| CaptureError::System { what, path: path.clone(), source: error.into() }
}
