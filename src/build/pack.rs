//! Packing the layers of a build: those that are known are taken from the store, the others made side by side.

use std::io::BufWriter;
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::thread;

use ociforge_layers::{Compression, Layer, LayerTree, PackError, pack};
use serde_json::{Value, json};

use super::{BuildError, BuiltLayer};
use crate::cancel::Cancel;
use crate::progress::{Progress, Reporter};
use crate::store::{LayerKey, Store};

/// A layer to be made.
pub(super) struct Work {
    /// What the layer is made of, but for the compression; `None` when that can't be told without making it.
    pub(super) ingredients: Option<Value>,
    /// For people, and the image's history.
    pub(super) description: String,
    /// About how many bytes there are to pack.
    pub(super) size: u64,
    /// Makes the tree.
    pub(super) tree: Box<dyn Fn() -> Result<Arc<LayerTree>, BuildError> + Send + Sync>,
}

/// Where and how layers are packed.
pub(super) struct Packer<'a> {
    pub(super) store: &'a Store,
    pub(super) compression: Compression,
    pub(super) use_cache: bool,
    pub(super) cancel: &'a Cancel,
    pub(super) reporter: &'a dyn Reporter,
}

impl Packer<'_> {
    /// Packs every layer, in as many threads as the machine has processors, the largest first. The result is in the
    /// order of `work`, and none of its bytes depend on the threads.
    pub(super) fn pack(&self, work: Vec<Work>) -> Result<Vec<BuiltLayer>, BuildError> {
        let known = |work: &Work| self.known(&work.ingredients, &work.description);
        let mut done: Vec<Option<BuiltLayer>> = work.iter().map(known).collect();
        let mut left: Vec<usize> = (0..work.len()).filter(|n| done[*n].is_none()).collect();
        left.sort_by_key(|n| work[*n].size);
        let processors = processors();
        let workers = processors.min(left.len());
        // Threads that no layer of its own is left for help with the compression of the others.
        let helpers = processors.checked_div(workers).unwrap_or(1);

        let (queue, results) = (Mutex::new(left), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(next) = queue.lock().ok().and_then(|mut queue| queue.pop()) {
                        let result = self.pack_one(&work[next], helpers);
                        // The first error ends the work of all.
                        if result.is_err()
                            && let Ok(mut queue) = queue.lock()
                        {
                            queue.clear();
                        }
                        if let Ok(mut results) = results.lock() {
                            results.push((next, result));
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_default();
        results.sort_by_key(|(n, _)| *n);
        for (n, result) in results {
            done[n] = Some(result?);
        }
        done.into_iter().map(|packed| packed.ok_or(BuildError::Interrupted)).collect()
    }

    /// The layer that was packed of these ingredients before.
    pub(super) fn known(&self, ingredients: &Option<Value>, description: &str) -> Option<BuiltLayer> {
        let key = self.key(ingredients).filter(|_| self.use_cache)?;
        let layer = self.store.layer(&key)?;
        self.reporter.task(description, Some(layer.descriptor.size)).done("cached");
        Some(BuiltLayer { layer, description: description.to_owned(), cached: true })
    }

    fn key(&self, ingredients: &Option<Value>) -> Option<LayerKey> {
        let ingredients = ingredients.as_ref()?;
        let compression = format!("{:?}", self.compression);
        Some(LayerKey::of(&json!({"compression": compression, "ingredients": ingredients})))
    }

    /// Packs one layer with all processors.
    pub(super) fn pack_alone(&self, work: &Work) -> Result<BuiltLayer, BuildError> {
        self.pack_one(work, processors())
    }

    fn pack_one(&self, work: &Work, threads: usize) -> Result<BuiltLayer, BuildError> {
        let task = self.reporter.task(&work.description, Some(work.size));
        let tree = (work.tree)()?;
        let layer = self.pack_tree(&tree, threads, &*task).map_err(|source| match source {
            _ if self.cancel.is_cancelled() => BuildError::Interrupted,
            source => BuildError::Pack { layer: work.description.clone(), source },
        })?;
        if let Some(key) = self.key(&work.ingredients) {
            self.store.remember(&key, &layer).map_err(BuildError::Store)?;
        }
        task.done("packed");
        Ok(BuiltLayer { layer, description: work.description.clone(), cached: false })
    }

    fn pack_tree(&self, tree: &LayerTree, threads: usize, task: &dyn Progress) -> Result<Layer, PackError> {
        let layout = self.store.layout();
        let mut blob = layout.writer().map_err(PackError::Write)?;
        let counted = Counted { inner: self.cancel.writer(blob.unhashed()), task };
        let layer = pack(tree, self.compression, threads, BufWriter::with_capacity(256 << 10, counted))?;
        blob.finish_at(&layout.blob_path(&layer.descriptor.digest)).map_err(PackError::Write)?;
        Ok(layer)
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Tells how much was written.
struct Counted<'a, W> {
    inner: W,
    task: &'a dyn Progress,
}

impl<W: std::io::Write> std::io::Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.task.advance(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
