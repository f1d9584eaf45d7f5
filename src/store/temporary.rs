//! Temporary files.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use uuid::Uuid;

use super::dir::Dir;

/// The prefix of the names of temporary files.
pub const TEMPORARY: &str = ".tmp-";

/// A temporary file. Dropping it before the rename removes it.
#[derive(Debug)]
pub struct TemporaryFile {
    directory: Dir,
    /// `None` once it is renamed.
    name: Option<OsString>,
    file: File,
}

impl TemporaryFile {
    pub(super) fn new(directory: &Dir) -> io::Result<Self> {
        let name = OsString::from(format!("{TEMPORARY}{}", Uuid::new_v4().simple()));
        let file = directory.new_file(&name, 0o600)?;
        Ok(Self { directory: directory.clone(), name: Some(name), file })
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Renames the file to `name` in its directory, and replaces an existing file. Its mode becomes readable by all,
    /// independent of the umask.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn persist(mut self, name: impl AsRef<OsStr>) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(0o644))?;
        if let Some(temporary) = &self.name {
            self.directory.rename(temporary, &self.directory, name)?;
            self.name = None;
        }
        Ok(())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = self.directory.remove(name);
        }
    }
}
