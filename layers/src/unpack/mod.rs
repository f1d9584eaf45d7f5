//! Layer blobs become directories.
//!
//! [`unpack_layer`] writes one layer into a directory of its own, as its tar says and without the layers below;
//! [`merge()`] puts such a directory onto those below, or [`rebase`](rebase::rebase) fits it onto them for overlayfs to
//! stack.
//!
//! No layer gets outside the directory that it is unpacked into. Symbolic links that stand above an entry are followed,
//! inside that directory only, as the system would do it for a process whose root directory it is: this is what
//! packages mean that were built with `/lib` a directory and are unpacked where it is a link to `/usr/lib`. A link that
//! leads to nothing has the directories made that it names.
//!
//! The content is verified while it is unpacked, so after an error a directory holds what must not be used.

mod ahead;
mod below;
mod error;
mod merge;
pub(crate) mod metadata;
pub mod rebase;
pub(crate) mod root;
mod verify;
mod writer;

use std::fmt;
use std::io::{self, BufRead};
use std::path::Path;
use std::thread;

use ociforge_manifests::DiffId;
use rustix::fs::{FileType, Mode, mknodat};
use rustix::io::Errno;

use self::ahead::Ahead;
pub use self::error::{UnpackError, UnpackFault};
pub use self::merge::merge;
use self::root::RootDirectory;
pub use self::verify::Mismatch;
use self::verify::VerifiedReader;
use self::writer::Writer;
use crate::decompress::decompress;
use crate::entries::TarEntries;
use crate::path::LayerPath;

/// How layers are unpacked.
#[derive(Clone, Copy)]
pub struct UnpackOptions<'a> {
    /// The treatment of owners.
    pub owners: OwnerPolicy,
    /// Whether devices are created. Skipped devices, and those that the system refuses, are counted.
    pub devices: bool,
    /// Asked now and then; unpacking ends in [`UnpackError::Cancelled`] once it is true.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

/// The namespace of overlayfs's extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrSpace {
    /// `trusted.overlay.*`, which only root can write.
    Trusted,
    /// `user.overlay.*`, for mounts with the option `userxattr`.
    User,
}

impl XattrSpace {
    /// All, as fuse-overlayfs may have used another than the kernel would.
    pub(crate) const ALL: [Self; 2] = [Self::Trusted, Self::User];

    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.",
            Self::User => "user.",
        }
    }
}

/// The treatment of owners and groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnerPolicy {
    /// They are as the layer says.
    Kept,
    /// Those that the system refuses to set are counted; such files belong to whoever unpacks.
    KeptWherePossible,
    /// Those that the system refuses to set are remembered beside files and directories ([`crate::owner`]), as are
    /// devices, which become empty files. What cannot carry that, such as symbolic links, is counted unless it is
    /// root's.
    Remembered,
}

impl Default for UnpackOptions<'_> {
    /// Everything as the layer says.
    fn default() -> Self {
        Self { owners: OwnerPolicy::Kept, devices: true, cancelled: &|| false }
    }
}

impl fmt::Debug for UnpackOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owners, devices, cancelled: _ } = self;
        let mut options = f.debug_struct("UnpackOptions");
        options.field("owners", owners).field("devices", devices).finish_non_exhaustive()
    }
}

/// What was unpacked. Paths are sorted, and are where things really are: symbolic links of the layer itself are
/// followed in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Whiteouts: these paths are removed from the layers below.
    pub whiteouts: Vec<LayerPath>,
    /// Opaque directories: their content in the layers below is removed.
    pub opaque: Vec<LayerPath>,
    /// Directories that no entry names and that were made because something is in them, with mode 0755; the root among
    /// them where no entry names it. A directory below keeps what it has.
    pub implied: Vec<LayerPath>,
    /// The number of files with a lost owner.
    pub unkept_owners: u64,
    /// Extended attributes that the filesystem or the kernel did not take.
    pub unkept_xattrs: u64,
    /// The number of skipped devices.
    pub skipped_devices: u64,
    /// Regular files, hard links not counted.
    pub files: u64,
    /// Bytes written to them.
    pub bytes: u64,
}

/// Unpacks one layer into the empty directory `into`.
///
/// The blob is a tar, plain or compressed, told apart by its first bytes, and is read to its end. Two threads work on
/// it, of which the caller's is one: decompressing, and writing files. They take about 2 MiB for their buffers, besides
/// what directories need: their attributes are kept until the end.
///
/// Kept are modes, owners, modification times, extended attributes, hard and symbolic links, fifos, devices and holes.
/// Of two entries of one path the later one counts. Whiteouts are applied to nothing; in particular they do not touch
/// what the layer itself has. Dropped are extended attributes that steer overlayfs and SELinux labels.
///
/// # Errors
/// When the blob cannot be read, its uncompressed content is not `expected`, or has entries that cannot be; and when
/// files cannot be written. `into` then holds a part of the layer.
pub fn unpack_layer(
    reader: impl BufRead + Send,
    expected: &DiffId,
    into: &Path,
    options: &UnpackOptions<'_>,
) -> Result<Unpacked, UnpackError> {
    let root = empty_root(into).map_err(unusable(into))?;
    thread::scope(|scope| {
        let content = Ahead::start(scope, || decompress(reader));
        // Inflating takes as long as hashing and writing together.
        write(VerifiedReader::new(content, expected), Writer::new(root, options))
    })
}

fn empty_root(into: &Path) -> rustix::io::Result<RootDirectory> {
    let root = RootDirectory::open(into)?;
    if root::names(root.place()?.fd)?.is_empty() { Ok(root) } else { Err(Errno::NOTEMPTY) }
}

fn write(tar: impl BufRead, mut writer: Writer<'_>) -> Result<Unpacked, UnpackError> {
    let mut entries = TarEntries::new(tar);
    while let Some(entry) = entries.next_entry()? {
        writer.entry(entry, &mut entries)?;
    }
    // The end of the tar need not be the end of the layer, which is where it proves to be the right one.
    io::copy(&mut entries.into_inner(), &mut io::sink())?;
    writer.finish()
}

/// Finds out whether whiteouts and opaque directories can be kept in the form of overlayfs in `directory`, which
/// gets both and is for the caller to remove.
///
/// # Errors
/// When they cannot, as on an overlay mount, or where extended attributes cannot be set.
pub fn try_whiteouts(directory: &Path, space: XattrSpace) -> io::Result<()> {
    let root = RootDirectory::open(directory)?;
    let place = root.place()?;
    mknodat(&place.fd, "whiteout", FileType::CharacterDevice, Mode::empty(), 0)?;
    Ok(metadata::make_opaque(&place.fd, space)?)
}

/// An error that is the system's, for a path that the caller gave.
fn unusable(path: &Path) -> impl FnOnce(Errno) -> UnpackError {
    |error| UnpackError::Directory { path: path.into(), source: error.into() }
}

#[cfg(test)]
pub(crate) mod tests;
