//! Writes the entries of one layer to files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, Seek, SeekFrom, Write};
use std::ops::Bound;
use std::os::fd::AsFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;

use super::error::{UnpackError, UnpackFault, cannot};
use super::metadata::{self, Attributes};
use super::root::{self, Missing, OpenDirectory, ResolvedPath, RootDirectory};
use super::{OwnerPolicy, UnpackOptions, Unpacked};
use crate::entries::{EntryKind, SparseSegment, TarEntry};
use crate::owner::RecordedDevice;
use crate::path::{LayerPath, shown};
use crate::whiteout::{self, Meaning};

/// Memory limit in bytes for the directories and whiteouts that are kept until the end of a layer.
pub(super) const MAX_PENDING: usize = 64 << 20;

/// The flags for creating a new file.
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Writes entries into a directory.
pub(super) struct Writer<'a> {
    root: RootDirectory,
    options: &'a UnpackOptions<'a>,
    /// The directory of the last entry, and its path in the entry's name: the next entry is often in the same one.
    parent: Option<(Vec<u8>, Rc<OpenDirectory>)>,
    /// Directories and their final attributes; `None` for directories without an entry.
    directories: BTreeMap<LayerPath, Option<Attributes>>,
    whiteouts: BTreeSet<LayerPath>,
    opaque: BTreeSet<LayerPath>,
    /// Their approximate size in bytes.
    pending: usize,
    count: Unpacked,
}

/// The cause of a failure at an entry.
enum Stop {
    Fault(UnpackFault),
    Other(UnpackError),
}

impl<F: Into<UnpackFault>> From<F> for Stop {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

impl<'a> Writer<'a> {
    pub(super) fn new(root: RootDirectory, options: &'a UnpackOptions<'a>) -> Self {
        Self {
            root,
            options,
            parent: None,
            directories: BTreeMap::from([(LayerPath::root(), None)]),
            whiteouts: BTreeSet::new(),
            opaque: BTreeSet::new(),
            pending: 0,
            count: Unpacked::default(),
        }
    }

    /// Writes an entry with its `body`.
    pub(super) fn entry(&mut self, mut entry: TarEntry, body: &mut impl BufRead) -> Result<(), UnpackError> {
        if (self.options.cancelled)() {
            return Err(UnpackError::Cancelled);
        }
        self.take(&mut entry, body).map_err(|stop| match stop {
            Stop::Other(error) => error,
            Stop::Fault(fault) => UnpackError::Entry { name: shown(&entry.name), fault },
        })
    }

    fn take(&mut self, entry: &mut TarEntry, body: &mut impl BufRead) -> Result<(), Stop> {
        let path = match whiteout::read(LayerPath::new(&entry.name)?)? {
            Meaning::Entry(path) => path,
            Meaning::Whiteout(path) => return Ok(self.whiteout(&path)?),
            Meaning::Opaque(path) => return Ok(self.opaque(&path)?),
        };
        let attributes = Attributes::of(entry)?;
        if path.is_root() {
            return match entry.kind {
                EntryKind::Directory => Ok(self.note(path, Some(attributes))?),
                _ => Err(UnpackFault::Root.into()),
            };
        }
        root::check(&path)?;
        let place = self.parent(&path)?;
        let name = path.file_name();
        match entry.kind {
            EntryKind::Directory => Ok(self.directory(&place, name, attributes)?),
            EntryKind::Symlink => Ok(self.symlink(&place, name, &entry.link, &attributes)?),
            EntryKind::Hardlink => Ok(self.hardlink(&place, name, &entry.link)?),
            EntryKind::Regular => self.file(&place, name, &attributes, entry, body),
            kind => Ok(self.special(&place, name, kind, entry.device, &attributes)?),
        }
    }

    /// The directory in which `path` is created; creates missing parents.
    fn parent(&mut self, path: &LayerPath) -> Result<Rc<OpenDirectory>, UnpackFault> {
        let bytes = path.as_bytes();
        let parent = &bytes[..bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0)];
        if let Some((known, place)) = &self.parent
            && known == parent
        {
            return Ok(Rc::clone(place));
        }
        let place = Rc::new(self.made(&path.parent().unwrap_or_default())?);
        self.parent = Some((parent.to_vec(), Rc::clone(&place)));
        Ok(place)
    }

    /// The directory at `path`, created if it is missing.
    fn made(&mut self, path: &LayerPath) -> Result<OpenDirectory, UnpackFault> {
        let mut made = Vec::new();
        let way = self.root.walk(path, Missing::Make(&mut made));
        made.into_iter().try_for_each(|path| self.note(path, None))?;
        match way? {
            ResolvedPath::There(place) => Ok(place),
            ResolvedPath::Missing(path) => Err(UnpackFault::NotADirectory(path)),
        }
    }

    /// Records the final attributes of a directory.
    fn note(&mut self, path: LayerPath, attributes: Option<Attributes>) -> Result<(), UnpackFault> {
        self.weigh(&path, attributes.as_ref().map_or(0, Attributes::weight))?;
        self.directories.insert(path, attributes);
        Ok(())
    }

    fn weigh(&mut self, path: &LayerPath, more: usize) -> Result<(), UnpackFault> {
        self.pending += path.as_bytes().len() + more + 64;
        if self.pending > MAX_PENDING { Err(UnpackFault::TooMuch) } else { Ok(()) }
    }

    /// A path of a layer below, with the links of this layer followed.
    fn below(&self, path: &LayerPath) -> Result<LayerPath, UnpackFault> {
        match self.root.walk(path, Missing::Stop)? {
            ResolvedPath::There(place) => Ok(place.path),
            ResolvedPath::Missing(path) => Ok(path),
        }
    }

    fn whiteout(&mut self, path: &LayerPath) -> Result<(), UnpackFault> {
        root::check(path)?;
        let hidden = self.below(&path.parent().unwrap_or_default())?.join(path.file_name())?;
        self.weigh(&hidden, 0)?;
        self.whiteouts.insert(hidden);
        Ok(())
    }

    fn opaque(&mut self, path: &LayerPath) -> Result<(), UnpackFault> {
        root::check(path)?;
        let emptied = self.below(path)?;
        self.weigh(&emptied, 0)?;
        self.opaque.insert(emptied);
        Ok(())
    }

    /// Creates an entry at `name`, and removes an earlier one of the layer.
    fn make<T>(
        &mut self,
        place: &OpenDirectory,
        name: &[u8],
        what: &'static str,
        make: impl Fn() -> rustix::io::Result<T>,
    ) -> Result<T, UnpackFault> {
        match make() {
            Err(Errno::EXIST) => {}
            result => return result.map_err(cannot(what)),
        }
        self.remove(place, name)?;
        make().map_err(cannot(what))
    }

    fn remove(&mut self, place: &OpenDirectory, name: &[u8]) -> Result<(), UnpackFault> {
        root::remove(place.fd.as_fd(), name).map_err(cannot("remove the earlier entry of its name"))?;
        let path = place.path.join(name)?;
        // The content of `a` sorts between `a/` and `a0`, because `0` is the byte after `/`.
        let (start, end) = ([path.as_bytes(), b"/"].concat(), [path.as_bytes(), b"0"].concat());
        let inside = self.directories.range::<[u8], _>((Bound::Excluded(&start[..]), Bound::Excluded(&end[..])));
        let gone: Vec<LayerPath> = inside.map(|(path, _)| path.clone()).chain([path]).collect();
        gone.iter().for_each(|path| drop(self.directories.remove(path)));
        // The directory of the last entry may be inside.
        self.parent = None;
        Ok(())
    }

    fn directory(&mut self, place: &OpenDirectory, name: &[u8], attributes: Attributes) -> Result<(), UnpackFault> {
        const WHAT: &str = "create the directory";
        match mkdirat(&place.fd, name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let there = root::stat(place.fd.as_fd(), name).map_err(cannot(WHAT))?;
                if !there.is_some_and(|stat| root::is_directory(&stat)) {
                    self.make(place, name, WHAT, || mkdirat(&place.fd, name, Mode::RWXU))?;
                }
            }
            result => result.map_err(cannot(WHAT))?,
        }
        self.note(place.path.join(name)?, Some(attributes))
    }

    fn symlink(
        &mut self,
        place: &OpenDirectory,
        name: &[u8],
        target: &[u8],
        attributes: &Attributes,
    ) -> Result<(), UnpackFault> {
        if target.is_empty() || target.contains(&0) {
            return Err(UnpackFault::Symlink);
        }
        self.make(place, name, "create the symbolic link", || symlinkat(target, &place.fd, name))?;
        attributes.set_at(place.fd.as_fd(), name, true, self.options.owners, &mut self.count)
    }

    /// The mode, owner and time in a hard link's own entry are ignored: the file already has them.
    fn hardlink(&mut self, place: &OpenDirectory, name: &[u8], target: &[u8]) -> Result<(), UnpackFault> {
        const WHAT: &str = "create the hard link";
        let target = LayerPath::new(target)?;
        let dangling = || UnpackFault::Dangling(target.clone());
        let ResolvedPath::There(from) = self.root.walk(&target.parent().unwrap_or_default(), Missing::Stop)? else {
            return Err(dangling());
        };
        if target.is_root() {
            return Err(UnpackFault::LinkToDirectory(target));
        }
        let file = root::stat(from.fd.as_fd(), target.file_name()).map_err(cannot(WHAT))?.ok_or_else(dangling)?;
        if root::is_directory(&file) {
            return Err(UnpackFault::LinkToDirectory(target));
        }
        if (&from.path, target.file_name()) == (&place.path, name) {
            return Err(UnpackFault::LinkToItself);
        }
        let link = || linkat(&from.fd, target.file_name(), &place.fd, name, AtFlags::empty());
        self.make(place, name, WHAT, link)
    }

    fn special(
        &mut self,
        place: &OpenDirectory,
        name: &[u8],
        kind: EntryKind,
        device: Option<(u32, u32)>,
        attributes: &Attributes,
    ) -> Result<(), UnpackFault> {
        let (file_type, (major, minor)) = match kind {
            EntryKind::Fifo => (FileType::Fifo, (0, 0)),
            EntryKind::CharDevice => (FileType::CharacterDevice, device.ok_or(UnpackFault::Device)?),
            _ => (FileType::BlockDevice, device.ok_or(UnpackFault::Device)?),
        };
        // A character device 0:0 is not a device: overlayfs interprets it as a whiteout.
        let whiteout = kind == EntryKind::CharDevice && (major, minor) == (0, 0);
        let mut made = Err(Errno::PERM);
        if kind == EntryKind::Fifo || (self.options.devices && !whiteout) {
            let make = || match mknodat(&place.fd, name, file_type, Mode::RUSR, makedev(major, minor)) {
                Err(Errno::PERM) => Ok(Err(Errno::PERM)),
                result => result.map(Ok),
            };
            made = self.make(place, name, "create the device or fifo", make)?;
        }
        if made.is_err() {
            self.remove(place, name)?;
            let device = RecordedDevice { block: file_type == FileType::BlockDevice, major, minor };
            if whiteout || !self.stand_in(place, name, device, attributes)? {
                self.count.skipped_devices += 1;
            }
            return Ok(());
        }
        attributes.set_at(place.fd.as_fd(), name, false, self.options.owners, &mut self.count)
    }

    /// Creates the empty file that records a device, and returns whether that is possible.
    fn stand_in(
        &mut self,
        place: &OpenDirectory,
        name: &[u8],
        device: RecordedDevice,
        attributes: &Attributes,
    ) -> Result<bool, UnpackFault> {
        if self.options.owners != OwnerPolicy::Remembered {
            return Ok(false);
        }
        let file = openat(&place.fd, name, NEW_FILE, Mode::RUSR | Mode::WUSR).map_err(cannot("create the file"))?;
        if !attributes.remember(file.as_fd(), Some(device), OwnerPolicy::Remembered)? {
            self.remove(place, name)?;
            return Ok(false);
        }
        attributes
            .set_at(place.fd.as_fd(), name, false, OwnerPolicy::Remembered, &mut Unpacked::default())
            .map(|()| true)
    }

    fn file(
        &mut self,
        place: &OpenDirectory,
        name: &[u8],
        attributes: &Attributes,
        entry: &TarEntry,
        body: &mut impl BufRead,
    ) -> Result<(), Stop> {
        let make = || openat(&place.fd, name, NEW_FILE, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(self.make(place, name, "create the file", make)?);
        match &entry.sparse {
            None => self.copy(&mut file, entry.body, body)?,
            Some(sparse) => {
                file.set_len(sparse.len).map_err(cannot("set its length"))?;
                for SparseSegment { at, len } in &sparse.stretches {
                    file.seek(SeekFrom::Start(*at)).map_err(cannot("set its length"))?;
                    self.copy(&mut file, *len, body)?;
                }
            }
        }
        attributes.set(file.as_fd(), self.options.owners, &mut self.count)?;
        self.count.files += 1;
        self.count.bytes += entry.body;
        Ok(())
    }

    /// Writes the next `len` bytes of the body.
    fn copy(&self, file: &mut File, mut len: u64, body: &mut impl BufRead) -> Result<(), Stop> {
        while len > 0 {
            if (self.options.cancelled)() {
                return Err(Stop::Other(UnpackError::Cancelled));
            }
            let bytes = body.fill_buf().map_err(|error| Stop::Other(error.into()))?;
            let now = bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            if now == 0 {
                return Err(Stop::Other(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
            }
            file.write_all(&bytes[..now]).map_err(cannot("write it"))?;
            body.consume(now);
            len -= now as u64;
        }
        Ok(())
    }

    /// Sets the attributes of directories, which are now complete, the deepest first.
    pub(super) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        let directories = std::mem::take(&mut self.directories);
        for (path, attributes) in directories.iter().rev() {
            self.set_attributes(path, attributes.as_ref()).map_err(at(path))?;
        }
        let implied = directories.into_iter().filter(|(_, attributes)| attributes.is_none());
        Ok(Unpacked {
            implied: implied.map(|(path, _)| path).collect(),
            whiteouts: self.whiteouts.into_iter().collect(),
            opaque: self.opaque.into_iter().collect(),
            ..self.count
        })
    }

    fn set_attributes(&mut self, path: &LayerPath, attributes: Option<&Attributes>) -> Result<(), UnpackFault> {
        let directory = self.root.directory(path.as_bytes()).map_err(cannot("open the directory"))?;
        match attributes {
            Some(attributes) => attributes.set(directory.as_fd(), self.options.owners, &mut self.count),
            None => metadata::set_implied(directory.as_fd()),
        }
    }
}

fn at(path: &LayerPath) -> impl FnOnce(UnpackFault) -> UnpackError {
    let name = shown(path.as_bytes());
    |fault| UnpackError::Entry { name, fault }
}
