//! Stopping work that is not asynchronous.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A word to all threads to stop. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Says the word.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was said.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag itself, for code that knows no more than that.
    #[must_use]
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// A writer that fails once the word was said, so that whoever fills it comes to an end and cleans up.
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
        // Not `Interrupted`, which `write_all` would take for a reason to try again.
        if self.cancel.is_cancelled() { Err(io::Error::other("interrupted")) } else { self.inner.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
