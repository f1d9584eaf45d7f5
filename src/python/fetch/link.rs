//! Wheels on this machine enter the cache without a copy: the filesystem shares their content.

use std::fs::{self, File};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::path::Path;

use ociforge_layers::regular::open_regular;
use rustix::fs::{AtFlags, CWD, ioctl_ficlone, linkat};

use super::FetchCause;
use super::partial::PartialWheel;
use crate::progress::Progress;
use crate::python::LockedWheel;
use crate::store::dir::there;
use crate::store::{FileHashes, HashedFile};

/// Creates `to` with the content of the wheel at `from`: a clone where the filesystem can share blocks, else a hard link,
/// or a copy on another filesystem. The file is read only if its hash is not known. Returns the file and its hash: the
/// caller [refreshes](FileHashes::refresh) the hash after a rename of `to`.
pub(super) fn link(
    wheel: &LockedWheel,
    from: &Path,
    to: &Path,
    hashes: &FileHashes,
    progress: &dyn Progress,
) -> Result<(File, HashedFile), FetchCause> {
    let local = |source| FetchCause::Local { path: from.to_path_buf(), source };
    let (hashed, file) = open_regular(from).and_then(|file| Ok((hashes.of_file(&file)?, file))).map_err(local)?;
    if let Some(expected) = wheel.size.filter(|expected| *expected != hashed.size()) {
        return Err(FetchCause::WrongSize { expected, actual: hashed.size() });
    }
    if hashed.sha256 != wheel.sha256 {
        return Err(FetchCause::WrongDigest { expected: wheel.sha256.clone(), actual: hashed.sha256 });
    }
    there(fs::remove_file(to))?;
    if share(&file, to)? {
        progress.advance(hashed.size());
    } else {
        copy(wheel, &file, to, progress)?;
    }
    hashes.refresh(&file, &hashed).map_err(local)?;
    Ok((file, hashed))
}

/// Shares the content of `file` with the new file `to`. `false` if the filesystem cannot, or the user must not.
fn share(file: &File, to: &Path) -> io::Result<bool> {
    if let Ok(new) = File::create_new(to) {
        if ioctl_ficlone(&new, file).is_ok() {
            return Ok(true);
        }
        fs::remove_file(to)?;
    }
    // The link of this open file, whatever its path leads to by now.
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, open, CWD, to, AtFlags::SYMLINK_FOLLOW).is_ok())
}

/// Copies the wheel.
fn copy(wheel: &LockedWheel, mut from: &File, to: &Path, progress: &dyn Progress) -> Result<(), FetchCause> {
    from.rewind()?;
    let mut partial = PartialWheel::create(to)?;
    let copied = partial.copy_from(&mut from, wheel.size, progress);
    let result = copied.and_then(|()| partial.verify(wheel));
    if result.is_err() {
        fs::remove_file(to)?;
    }
    result
}
