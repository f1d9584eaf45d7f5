//! Partial files of the cache.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use ociforge_manifests::Digest;
use sha2::{Digest as _, Sha256};

use super::FetchCause;
use crate::progress::Progress;
use crate::python::LockedWheel;

const CHUNK: usize = 256 << 10;

/// The received part of a wheel, and its hash so far.
pub(super) struct PartialWheel {
    file: File,
    hasher: Sha256,
    size: u64,
}

impl PartialWheel {
    /// An empty partial file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let mut partial = Self { file: open(path)?, hasher: Sha256::new(), size: 0 };
        partial.clear()?;
        Ok(partial)
    }

    /// The partial file of an earlier run, or an empty one.
    pub(super) fn resume(path: &Path) -> io::Result<Self> {
        let (mut file, mut hasher, mut size) = (open(path)?, Sha256::new(), 0);
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(Self { file, hasher, size }),
                count => {
                    hasher.update(&chunk[..count]);
                    size += count as u64;
                }
            }
        }
    }

    /// The received bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Truncates the file to zero bytes.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        (self.hasher, self.size) = (Sha256::new(), 0);
        Ok(())
    }

    /// Appends bytes, up to the locked length.
    pub(super) fn append(&mut self, bytes: &[u8], expected: Option<u64>) -> Result<(), FetchCause> {
        let actual = self.size + bytes.len() as u64;
        if let Some(expected) = expected.filter(|expected| actual > *expected) {
            return Err(FetchCause::WrongSize { expected, actual });
        }
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.size = actual;
        Ok(())
    }

    /// Appends a file of this machine.
    pub(super) fn copy_from(
        &mut self,
        source: &mut impl Read,
        expected: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<(), FetchCause> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match source.read(&mut chunk)? {
                0 => return Ok(()),
                count => {
                    self.append(&chunk[..count], expected)?;
                    progress.advance(count as u64);
                }
            }
        }
    }

    /// Whether it is the locked wheel.
    pub(super) fn verify(&self, wheel: &LockedWheel) -> Result<(), FetchCause> {
        if let Some(expected) = wheel.size.filter(|size| *size != self.size) {
            return Err(FetchCause::WrongSize { expected, actual: self.size });
        }
        let actual = Digest::from_sha256(&self.hasher.clone().finalize().into());
        if actual == wheel.sha256 {
            Ok(())
        } else {
            Err(FetchCause::WrongDigest { expected: wheel.sha256.clone(), actual })
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}
