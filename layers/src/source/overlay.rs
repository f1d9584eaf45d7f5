//! A tree from the upper directory of an overlay mount.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::capture::files::{self, CapturedFile, Files, Marks, cannot};
use super::capture::{self, CaptureError};
use crate::path::LayerPath;
use crate::tree::LayerTree;
use crate::unpack::XattrSpace;
use crate::unpack::metadata;
use crate::unpack::root::{self, RootDirectory};
use crate::whiteout::{self, Meaning};

/// The options of the capture.
#[derive(Debug, Clone, Copy)]
pub struct OverlayOptions<'a> {
    /// The namespace of overlayfs's attributes.
    pub space: XattrSpace,
    /// Whether fuse-overlayfs wrote the directory, which uses files named `.wh.…` as whiteouts if it cannot create
    /// others.
    pub fuse: bool,
    /// The directories of the layers below, **the topmost first**. The tree omits their directories whose metadata is
    /// unchanged, and whiteouts of entries that they do not have.
    pub lower: &'a [PathBuf],
    /// The common options; the captured directory is the upper one.
    pub shared: capture::CaptureOptions<'a>,
}

/// The tree of the changes in an unmounted overlay with the upper directory `upper`.
///
/// The tree refers to the content of files in `upper`, which must exist until the tree is packed.
///
/// # Errors
/// When a file cannot be read or is invalid in a layer.
pub fn overlay(upper: &Path, options: &OverlayOptions<'_>) -> Result<LayerTree, CaptureError> {
    let marks = if options.fuse { Marks::Fuse } else { Marks::Overlay(options.space) };
    let files = Files::new(upper, options.shared, marks)?;
    let below = options.lower.iter().map(|path| files::open(path)).collect::<Result<_, _>>()?;
    let mut walk = OverlayWalk { files, options, below, ahead: Vec::new() };
    walk.top()?;
    while let Some((path, showing)) = walk.ahead.pop() {
        walk.directory(&path, &showing)?;
    }
    walk.files.finish()
}

struct OverlayWalk<'a> {
    files: Files<'a>,
    options: &'a OverlayOptions<'a>,
    /// The layers below, the topmost first.
    below: Vec<RootDirectory>,
    /// Directories to walk, with the layers below that are visible in them.
    ahead: Vec<(LayerPath, Showing)>,
}

/// Layers below by their numbers, the topmost first.
type Showing = Vec<usize>;

/// The entry of the layers below at a path.
enum LowerEntry {
    Nothing,
    /// Not a directory.
    Other,
    /// An open directory, which begins in the first of these layers.
    Directory(OwnedFd, Showing),
}

/// The meaning of an entry in the upper directory.
#[derive(PartialEq, Eq)]
enum OverlayMark {
    /// No meaning: an ordinary entry.
    None,
    /// A directory that hides lower entries.
    Opaque,
    /// A whiteout of its own name.
    Whiteout,
    /// A whiteout of another name.
    Hides(Vec<u8>),
    /// A marker that makes its directory opaque.
    HidesAll,
}

impl OverlayWalk<'_> {
    /// Captures the upper directory itself.
    fn top(&mut self) -> Result<(), CaptureError> {
        let path = LayerPath::root();
        let mut below = LowerEntry::Nothing;
        for number in (0..self.below.len()).rev() {
            let directory = self.below[number].directory(b"").map_err(cannot(OPEN, &path))?;
            below = match below {
                LowerEntry::Directory(_, showing) => LowerEntry::Directory(directory, [vec![number], showing].concat()),
                _ => LowerEntry::Directory(directory, vec![number]),
            };
        }
        let (place, _) = self.files.enter(&path)?;
        let Some(found) = CapturedFile::new(place.fd.as_fd(), b".", path)? else { return Ok(()) };
        self.found_directory(&found, false, below)
    }

    /// Captures the content of the directory at `path`.
    fn directory(&mut self, path: &LayerPath, showing: &Showing) -> Result<(), CaptureError> {
        let (place, names) = self.files.enter(path)?;
        let open = |number: &usize| Ok((*number, self.below[*number].directory(path.as_bytes())?));
        let below = showing.iter().map(open).collect::<Result<Vec<_>, Errno>>().map_err(cannot(OPEN, path))?;
        for name in names {
            let path = self.files.path(path, &name)?;
            let Some(found) = CapturedFile::new(place.fd.as_fd(), &name, path)? else { continue };
            let mark = self.mark(&found)?;
            let (name, path) = match &mark {
                OverlayMark::HidesAll => continue,
                OverlayMark::Hides(hidden) => (hidden.clone(), self.files.path(&place.path, hidden)?),
                _ => (name.clone(), found.path.clone()),
            };
            let below = find_lower(&below, &name).map_err(cannot(OPEN, &path))?;
            let shown = !matches!(below, LowerEntry::Nothing);
            match mark {
                OverlayMark::Whiteout | OverlayMark::Hides(_) if shown => self.files.whiteout(path)?,
                OverlayMark::Whiteout | OverlayMark::Hides(_) => {}
                mark if found.is_directory() => self.found_directory(&found, mark == OverlayMark::Opaque, below)?,
                _ => self.files.file(&found, shown)?,
            }
        }
        Ok(())
    }

    /// Captures a directory, unless only its content changed, and walks it.
    fn found_directory(
        &mut self,
        found: &CapturedFile<'_>,
        opaque: bool,
        below: LowerEntry,
    ) -> Result<(), CaptureError> {
        let showing = match below {
            LowerEntry::Directory(_, showing) if opaque => {
                self.files.directory(found, true)?;
                drop(showing);
                Vec::new()
            }
            LowerEntry::Directory(lower, showing) => {
                let old = CapturedFile::new(lower.as_fd(), b".", found.path.clone())?;
                self.files.directory_over(found, old.as_ref())?;
                showing
            }
            LowerEntry::Nothing | LowerEntry::Other => {
                self.files.directory(found, false)?;
                Vec::new()
            }
        };
        self.ahead.push((found.path.clone(), showing));
        Ok(())
    }

    fn mark(&self, found: &CapturedFile<'_>) -> Result<OverlayMark, CaptureError> {
        let attribute = |name: &str| {
            let own = format!("{}overlay.{name}", self.options.space.prefix());
            let fuse =
                ["trusted.overlay.", "user.overlay.", "user.fuseoverlayfs."].map(|prefix| format!("{prefix}{name}"));
            let names = std::iter::once(own).chain(fuse.into_iter().filter(|_| self.options.fuse));
            names.filter_map(|name| found.xattrs.get(name.as_bytes())).next()
        };
        if attribute("redirect").or(attribute("metacopy")).is_some() {
            return Err(CaptureError::Partial(found.path.clone()));
        }
        let is_file = found.kind() == FileType::RegularFile;
        Ok(match found.kind() {
            FileType::CharacterDevice if found.stat.st_rdev == 0 => OverlayMark::Whiteout,
            FileType::RegularFile if found.stat.st_size == 0 && attribute("whiteout").is_some() => {
                OverlayMark::Whiteout
            }
            FileType::Directory if attribute("opaque").is_some_and(|value| value == b"y") => OverlayMark::Opaque,
            FileType::Directory if self.options.fuse && self.is_marked_inside(found)? => OverlayMark::Opaque,
            _ if is_file && self.options.fuse => match whiteout::read(found.path.clone())? {
                Meaning::Whiteout(path) => OverlayMark::Hides(path.file_name().to_vec()),
                Meaning::Opaque(_) => OverlayMark::HidesAll,
                Meaning::Entry(_) => OverlayMark::None,
            },
            _ => OverlayMark::None,
        })
    }

    /// Whether fuse-overlayfs marked a directory as opaque by a file in it.
    fn is_marked_inside(&self, found: &CapturedFile<'_>) -> Result<bool, CaptureError> {
        let marker = whiteout::opaque(&LayerPath::new(found.name)?);
        Ok(root::stat(found.directory, &marker).map_err(cannot(OPEN, &found.path))?.is_some())
    }
}

const OPEN: &str = "read a directory";

/// The entry `name` in these directories of the layers below.
fn find_lower(directories: &[(usize, OwnedFd)], name: &[u8]) -> Result<LowerEntry, Errno> {
    let mut below = LowerEntry::Nothing;
    for (number, directory) in directories {
        let Some(stat) = root::stat(directory.as_fd(), name)? else { continue };
        if !root::is_directory(&stat) {
            let whiteout = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
            return Ok(if matches!(below, LowerEntry::Nothing) && !whiteout { LowerEntry::Other } else { below });
        }
        let inside = root::open(directory.as_fd(), name)?;
        let opaque = metadata::is_opaque(&inside, &XattrSpace::ALL);
        match &mut below {
            LowerEntry::Directory(_, showing) => showing.push(*number),
            _ => below = LowerEntry::Directory(inside, vec![*number]),
        }
        if opaque {
            break;
        }
    }
    Ok(below)
}

#[cfg(test)]
mod tests;
