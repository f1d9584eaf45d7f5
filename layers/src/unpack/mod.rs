//! Unpacking of layer blobs to directories.
//!
//! [`unpack_layer`] writes one layer into its own directory, independent of the layers below; [`merge()`] applies such
//! a directory to those below, or [`rebase`](rebase::rebase) fits it onto them for overlayfs.
//!
//! No layer writes outside of the directory that it is unpacked into. Symbolic links above an entry are followed only
//! inside that directory, as for a process with that root directory: packages that were built with a directory `/lib`
//! expect this if `/lib` is a link to `/usr/lib`. If the target of a link is missing, its directories are created.
//!
//! The content is verified while it is unpacked; after an error the directory must not be used.

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

use self::ahead::ReadAhead;
pub use self::error::{UnpackError, UnpackFault};
pub use self::merge::merge;
use self::root::RootDirectory;
pub use self::verify::Mismatch;
use self::verify::VerifiedReader;
use self::writer::Writer;
use crate::decompress::decompress;
use crate::entries::TarEntries;
use crate::path::LayerPath;

/// The options of unpacking.
#[derive(Clone, Copy)]
pub struct UnpackOptions<'a> {
    /// The treatment of owners.
    pub owners: OwnerPolicy,
    /// Whether devices are created. Skipped devices, and those that the system refuses, are counted.
    pub devices: bool,
    /// Polled; once true, unpacking ends with [`UnpackError::Cancelled`].
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
    /// All, because fuse-overlayfs may use another one than the kernel.
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
    /// They are set as in the layer.
    Kept,
    /// Refused owners are counted; the files belong to the user who unpacks.
    KeptWherePossible,
    /// Refused owners are recorded beside files and directories ([`crate::owner`]), and so are devices, which become
    /// empty files. Files that cannot have a record, such as symbolic links, are counted unless they belong to root.
    Remembered,
}

impl Default for UnpackOptions<'_> {
    /// Everything as in the layer.
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

/// The result of unpacking. Paths are sorted, with the layer's own symbolic links followed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Whiteouts: these paths are removed from the layers below.
    pub whiteouts: Vec<LayerPath>,
    /// Opaque directories: their content in the layers below is removed.
    pub opaque: Vec<LayerPath>,
    /// Directories without an entry that were created as parents, with mode 0755; the root is among them if it has no
    /// entry. A directory of a lower layer keeps its metadata.
    pub implied: Vec<LayerPath>,
    /// The number of files with a lost owner.
    pub unkept_owners: u64,
    /// Extended attributes that the filesystem or the kernel refused.
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
/// The blob is a tar, plain or compressed, detected by its first bytes, and is read to its end. Two threads, including
/// the caller's, decompress it and write files. Their buffers take about 2 MiB; the attributes of all directories are
/// kept in memory until the end.
///
/// Sets modes, owners, modification times, extended attributes, hard and symbolic links, fifos, devices and holes. The
/// later of two entries for one path counts. Whiteouts are only recorded; in particular they do not affect entries of
/// the layer itself. Drops overlayfs's extended attributes and SELinux labels.
///
/// # Errors
/// When the blob cannot be read, its uncompressed content is not `expected`, an entry is invalid, or files cannot be
/// written. `into` then has a part of the layer.
pub fn unpack_layer(
    reader: impl BufRead + Send,
    expected: &DiffId,
    into: &Path,
    options: &UnpackOptions<'_>,
) -> Result<Unpacked, UnpackError> {
    let root = empty_root(into).map_err(unusable(into))?;
    thread::scope(|scope| {
        let content = ReadAhead::start(scope, || decompress(reader));
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
    // The layer may continue after the end of the tar, and is verified at its own end.
    io::copy(&mut entries.into_inner(), &mut io::sink())?;
    writer.finish()
}

/// Probes whether whiteouts and opaque directories can be created in overlayfs's form in `directory`. Creates both
/// there; the caller removes them.
///
/// # Errors
/// When they cannot be created, as on an overlay mount or without extended attributes.
pub fn try_whiteouts(directory: &Path, space: XattrSpace) -> io::Result<()> {
    let root = RootDirectory::open(directory)?;
    let place = root.place()?;
    mknodat(&place.fd, "whiteout", FileType::CharacterDevice, Mode::empty(), 0)?;
    Ok(metadata::make_opaque(&place.fd, space)?)
}

/// A system error for a path given by the caller.
fn unusable(path: &Path) -> impl FnOnce(Errno) -> UnpackError {
    |error| UnpackError::Directory { path: path.into(), source: error.into() }
}

#[cfg(test)]
pub(crate) mod tests;
