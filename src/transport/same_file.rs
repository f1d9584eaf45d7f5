//! The identity of files.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, absolute};

/// Whether two paths lead to the same file or directory, also through symbolic or hard links. A missing file is
/// identified by its directory and name.
#[must_use]
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

/// Device and inode; those of the parent directory, with the name, for a missing file.
fn identity(path: &Path) -> Option<(u64, u64, Option<OsString>)> {
    if let Ok(found) = fs::metadata(path) {
        return Some((found.dev(), found.ino(), None));
    }
    let path = absolute(path).ok()?;
    let above = fs::metadata(path.parent()?).ok()?;
    Some((above.dev(), above.ino(), Some(path.file_name()?.to_owned())))
}
