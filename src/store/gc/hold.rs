//! Who writes an image straight into a layout keeps garbage collection away.
//!
//! An image's blobs come long before its manifest, and nothing reaches them until then. A server looks whether they are
//! all there when the manifest comes; a copy into a layout, which may take hours, relies on what it has written.

use std::fs::File;
use std::io;

use crate::store::Layout;
use crate::store::layout::WRITERS;

/// While this lives nobody collects garbage in the layout; several may have one.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Hold {
    /// Waits until nobody collects garbage in `layout`, and lets nobody begin.
    ///
    /// # Errors
    /// When the layout can't be written.
    pub fn on(layout: &Layout) -> io::Result<Self> {
        let file = layout.dir().make_file(WRITERS)?;
        file.lock_shared()?;
        Ok(Self { _file: file })
    }
}

/// Nobody writes straight into `layout` while this lives. `None` when somebody does.
pub(super) fn alone(layout: &Layout) -> io::Result<Option<File>> {
    let file = layout.dir().make_file(WRITERS)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}
