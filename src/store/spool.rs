//! Temporary storage of large content: unnamed files, which the kernel removes with the process.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use tempfile::SpooledTempFile;

/// Creates an unnamed file.
///
/// # Errors
/// When it cannot be created.
pub fn temporary_file() -> io::Result<File> {
    tempfile::tempfile_in(directory())
}

/// A file that starts in memory, and moves to the disk above this size in bytes.
#[must_use]
pub fn spooled(in_memory: usize) -> SpooledTempFile {
    tempfile::spooled_tempfile_in(in_memory, directory())
}

/// `$TMPDIR`, or else `/var/tmp`: `/tmp` is often memory.
fn directory() -> PathBuf {
    let chosen = std::env::var_os("TMPDIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let usual = || Some(PathBuf::from("/var/tmp")).filter(|path| path.is_dir());
    chosen.or_else(usual).unwrap_or_else(std::env::temp_dir)
}
