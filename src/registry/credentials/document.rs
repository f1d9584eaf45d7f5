//! Writes of credential files: locked, atomic, and readable by the user only.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::CredentialError;
use super::file::{AuthFile, read};
use crate::store::dir::directory_of;

/// A locked file during a change.
pub(super) struct LockedAuthFile {
    /// The path for the user.
    pub file: PathBuf,
    /// The path with links resolved.
    place: PathBuf,
    pub content: AuthFile,
    /// Its complete entries.
    pub auths: Map<String, Value>,
    /// All other keys.
    rest: Map<String, Value>,
    _lock: File,
}

impl LockedAuthFile {
    /// Locks and reads the file. Missing directories are created with access for the user only.
    pub(super) fn open(file: &Path) -> Result<Self, CredentialError> {
        let unwritten = |error: io::Error| unwritten(file, &error);
        let place = target(file).map_err(unwritten)?;
        let directory = directory_of(&place);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unwritten)?;
        let lock = File::open(directory).map_err(unwritten)?;
        // Some network file systems lock no directories. There the last of two that write at once wins.
        let _ = lock.lock();
        let content = AuthFile::read(&place)?;
        let mut rest: Map<String, Value> = read(&place)?;
        let auths = match rest.remove("auths") {
            Some(Value::Object(auths)) => auths,
            _ => Map::new(),
        };
        Ok(Self { file: file.to_owned(), place, content, auths, rest, _lock: lock })
    }

    /// Whether it is docker's own, which calls Docker Hub by another name.
    pub(super) fn is_dockers(&self) -> bool {
        self.file.file_name().is_some_and(|name| name == "config.json")
    }

    /// Replaces the file by one that only the user can read.
    pub(super) fn write(&self) -> Result<(), CredentialError> {
        self.try_write().map_err(|error| unwritten(&self.file, &error))
    }

    fn try_write(&self) -> io::Result<()> {
        let mut text = Vec::new();
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut json = self.rest.clone();
        json.insert("auths".into(), Value::Object(self.auths.clone()));
        json.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
        text.push(b'\n');
        // It has mode 0600 from the beginning.
        let mut new = tempfile::Builder::new().prefix(".auth-").tempfile_in(directory_of(&self.place))?;
        new.write_all(&text)?;
        new.as_file().sync_all()?;
        new.persist(&self.place)?;
        Ok(())
    }
}

fn unwritten(file: &Path, error: &io::Error) -> CredentialError {
    CredentialError::Write { file: file.to_owned(), reason: error.to_string() }
}

/// The path of a file with links resolved, even if the file does not exist.
fn target(file: &Path) -> io::Result<PathBuf> {
    const MOST_LINKS: usize = 40;
    let mut place = file.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&place) {
            Ok(next) => place = directory_of(&place).join(next),
            // It is not a link, or does not exist.
            Err(_) => return Ok(place),
        }
    }
    Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_files_that_are_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink("sub/b", at("a")).unwrap();
        assert_eq!(target(&at("a")).unwrap(), at("sub/b"));
        symlink("loop", at("loop")).unwrap();
        assert!(target(&at("loop")).is_err());
    }
}
