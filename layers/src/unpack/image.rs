//! All layers of an image become one directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use super::root::{self, Root};
use super::{Expected, Options, UnpackError, Unpacked, Whiteouts, merge, unpack_layer, unusable};

/// A layer's blob.
pub struct Blob<'a> {
    /// Opens it at its first byte; called once, on one of several threads.
    pub open: Box<dyn Fn() -> io::Result<Box<dyn Read + Send + 'a>> + Send + Sync + 'a>,
    /// What it should be.
    pub expected: Expected,
}

/// What was unpacked of all layers together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files whose owner could not be kept.
    pub unkept_owners: u64,
    /// Extended attributes that the filesystem or the kernel did not take.
    pub unkept_xattrs: u64,
    /// Devices that were not made.
    pub skipped_devices: u64,
    /// Regular files in layers, those included that upper layers hide.
    pub files: u64,
    /// Bytes written to them.
    pub bytes: u64,
}

/// Unpacks the layers, the lowest first, into the directory `root`, which does not exist yet or is empty.
///
/// Up to `jobs` layers are unpacked at a time, each into a directory of its own inside `staging`, which is on the same
/// filesystem as `root`; they are merged in their order. `root` gets its place when everything is in it: it is never
/// there in part. What [`Options::whiteouts`] says does not matter here.
///
/// # Errors
/// As [`unpack_layer`] and [`merge()`]. Nothing is left then, neither in `staging` nor at `root`.
pub fn unpack_image(
    layers: &[Blob<'_>],
    root: &Path,
    staging: &Path,
    jobs: usize,
    options: &Options<'_>,
) -> Result<Summary, UnpackError> {
    check_free(root).map_err(unusable(root))?;
    let staged = Staged::new(staging).map_err(unusable(staging))?;
    let image = Image { layers, staged: &staged, next: AtomicUsize::new(0), stopped: AtomicBool::new(false), options };
    let summary = image.unpack(jobs)?;
    let first = staged.directory(0);
    if layers.is_empty() {
        fs::create_dir(&first).map_err(unusable(&first))?;
    }
    fs::rename(&first, root).map_err(unusable(root))?;
    Ok(summary)
}

fn check_free(root: &Path) -> io::Result<()> {
    match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(mut entries) => entries.next().map_or(Ok(()), |_| Err(io::ErrorKind::DirectoryNotEmpty.into())),
    }
}

/// A directory for layers that are not merged yet. It goes away with this.
struct Staged(PathBuf);

impl Staged {
    fn new(parent: &Path) -> io::Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix(".ociforge-").tempdir_in(parent)?.keep()))
    }

    fn directory(&self, layer: usize) -> PathBuf {
        self.0.join(layer.to_string())
    }

    /// Removes everything; directories that may not be written are no obstacle.
    fn remove(&self) -> io::Result<()> {
        let (parent, name) = (self.0.parent().unwrap_or(&self.0), self.0.file_name().unwrap_or_default());
        Ok(root::remove_in(&Root::open(parent)?, name.as_bytes())?)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing that could be done.
        let _ = self.remove();
    }
}

/// A layer's number, and what became of it.
type Outcome = (usize, Result<Unpacked, UnpackError>);

struct Image<'a, 'b> {
    layers: &'a [Blob<'b>],
    staged: &'a Staged,
    /// The next layer to unpack.
    next: AtomicUsize,
    /// Whether a layer has failed.
    stopped: AtomicBool,
    options: &'a Options<'a>,
}

impl Image<'_, '_> {
    fn unpack(&self, jobs: usize) -> Result<Summary, UnpackError> {
        thread::scope(|scope| {
            let (sender, outcomes) = channel();
            for _ in 0..jobs.clamp(1, self.layers.len().max(1)) {
                let sender = sender.clone();
                scope.spawn(move || {
                    while let Some(outcome) = self.unpack_next() {
                        // Nobody waits for it any more after a layer has failed.
                        let _ = sender.send(outcome);
                    }
                });
            }
            drop(sender);
            let merged = self.merge_all(&outcomes);
            self.stopped.store(true, Ordering::Relaxed);
            merged
        })
    }

    fn unpack_next(&self) -> Option<Outcome> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let layer = self.layers.get(number).filter(|_| !self.stopped.load(Ordering::Relaxed))?;
        Some((number, self.unpack_one(layer, &self.staged.directory(number))))
    }

    fn unpack_one(&self, layer: &Blob<'_>, into: &Path) -> Result<Unpacked, UnpackError> {
        fs::create_dir(into).map_err(unusable(into))?;
        let blob = (layer.open)()?;
        let cancelled = || self.stopped.load(Ordering::Relaxed) || (self.options.cancelled)();
        let options = Options { whiteouts: Whiteouts::Listed, cancelled: &cancelled, ..*self.options };
        unpack_layer(blob, &layer.expected, into, &options)
    }

    /// Merges layers in their order, as they come.
    fn merge_all(&self, outcomes: &Receiver<Outcome>) -> Result<Summary, UnpackError> {
        let mut waiting = BTreeMap::new();
        let mut summary = Summary::default();
        let mut merged = 0;
        for (number, outcome) in outcomes {
            waiting.insert(number, outcome.map_err(|error| self.of_layer(number, error))?);
            while let Some(unpacked) = waiting.remove(&merged) {
                self.merge(merged, &unpacked).map_err(|error| self.of_layer(merged, error))?;
                summary.add(&unpacked);
                merged += 1;
            }
        }
        Ok(summary)
    }

    fn merge(&self, number: usize, unpacked: &Unpacked) -> Result<(), UnpackError> {
        if (self.options.cancelled)() {
            return Err(UnpackError::Cancelled);
        }
        if number == 0 {
            return Ok(());
        }
        let layer = self.staged.directory(number);
        merge(&layer, unpacked, &self.staged.directory(0))?;
        let staged = Root::open(&self.staged.0).map_err(|error| unusable(&self.staged.0)(error.into()))?;
        root::remove_in(&staged, number.to_string().as_bytes()).map_err(|error| unusable(&layer)(error.into()))
    }

    fn of_layer(&self, number: usize, error: UnpackError) -> UnpackError {
        match error {
            UnpackError::Cancelled => error,
            error => UnpackError::Layer { number: number + 1, count: self.layers.len(), source: Box::new(error) },
        }
    }
}

impl Summary {
    fn add(&mut self, layer: &Unpacked) {
        self.unkept_owners += layer.unkept_owners;
        self.unkept_xattrs += layer.unkept_xattrs;
        self.skipped_devices += layer.skipped_devices;
        self.files += layer.files;
        self.bytes += layer.bytes;
    }
}
