//! Search for the step's program in the step's root.

use std::fs;
use std::io;

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::job::{Failed, FailureKind};

/// The path of the program in the first argument: the argument itself if it has a slash; otherwise the result of a
/// search in the environment's `PATH` (execvp(3)).
pub(super) fn find(arguments: &[String], environment: &[String]) -> Result<String, Failed> {
    let Some(name) = arguments.first().filter(|name| !name.is_empty()) else {
        return Err(Failed::new(FailureKind::Unfound, "of an empty command", &io::ErrorKind::NotFound.into()));
    };
    if name.contains('/') {
        return Ok(name.clone());
    }
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut refused = None;
    for directory in path.split(':') {
        let file = format!("{}/{name}", if directory.is_empty() { "." } else { directory });
        match usable(&file) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = refused.or(Some((file, error))),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some((file, error)) => Failed::new(FailureKind::NotExecutable, file, &error),
        None => Failed::new(FailureKind::Unfound, name, &io::ErrorKind::NotFound.into()),
    })
}

/// Checks that it is a file that this user can execute.
fn usable(file: &str) -> io::Result<()> {
    if fs::metadata(file)?.is_dir() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS)?)
}
