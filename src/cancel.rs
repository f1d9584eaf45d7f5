//! Cancellation of synchronous work.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A cancellation flag for all threads. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Sets the flag.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for code that does not use this type.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// A writer that fails after the cancellation, so that its user ends and cleans up.
    pub fn writer<W: Write>(&self, inner: W) -> CancelWriter<W> {
        CancelWriter { inner, cancel: self.clone() }
    }
}

/// See [`Cancel::writer`].
#[derive(Debug)]
pub struct CancelWriter<W> {
    inner: W,
    cancel: Cancel,
}

impl<W: Write> Write for CancelWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Not `Interrupted`, after which `write_all` would try again.
        if self.cancel.is_cancelled() { Err(io::Error::other("interrupted")) } else { self.inner.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
