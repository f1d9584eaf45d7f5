//! The lock between direct writers of a layout and garbage collection.
//!
//! An image's blobs arrive long before its manifest, and until then nothing refers to them. A server checks that they
//! exist when the manifest arrives; a copy into a layout, which may take hours, relies on its earlier writes.

use std::fs::File;
use std::io;

use crate::store::Layout;
use crate::store::file_lock::try_lock;
use crate::store::layout::WRITERS;

/// A shared lock that prevents garbage collection in the layout.
#[derive(Debug)]
pub struct Hold {
    _file: File,
}

impl Hold {
    /// Locks `layout` against garbage collection, and waits for a running one.
    ///
    /// # Errors
    /// When the layout cannot be written.
    pub fn on(layout: &Layout) -> io::Result<Self> {
        let file = layout.dir().make_file(WRITERS)?;
        file.lock_shared()?;
        Ok(Self { _file: file })
    }
}

/// Locks `layout` against direct writers; `None` if it has one.
pub(super) fn alone(layout: &Layout) -> io::Result<Option<File>> {
    let file = layout.dir().make_file(WRITERS)?;
    Ok(try_lock(&file)?.then_some(file))
}
