//! Locks of files between processes (`flock`). The system releases them when the file is closed, also by a killed process.

use std::fs::{File, TryLockError};
use std::io;

/// Locks `file` for this process alone. `false` if another one has a lock.
///
/// # Errors
/// When the filesystem has no locks.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    taken(file.try_lock())
}

/// Locks `file`, together with other shared locks. `false` if another process has an exclusive lock.
///
/// # Errors
/// When the filesystem has no locks.
pub(crate) fn try_lock_shared(file: &File) -> io::Result<bool> {
    taken(file.try_lock_shared())
}

fn taken(attempt: Result<(), TryLockError>) -> io::Result<bool> {
    match attempt {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
