//! Packs the layers of a build in parallel. Known layers come from the store.

use std::io::BufWriter;
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

use ociforge_layers::place::Lookups;
use ociforge_layers::{
    Compression, FileIndex, Layer, LayerPath, LayerTree, LowerLayers, PackError, PlaceError, pack, place,
};
use ociforge_manifests::Digest;
use serde_json::{Value, json};

use super::error::failed;
use super::state::BuildState;
use super::{BuildError, BuiltLayer};
use crate::cancel::Cancel;
use crate::layer::{LayerError, LayerPart, LayerWork, TreeSource};
use crate::progress::{Progress, Reporter};
use crate::store::{BlobState, KnownLayer, LayerKey, Store};

/// The context of packing.
pub(super) struct Packer<'a> {
    pub(super) store: &'a Store,
    pub(super) compression: Compression,
    pub(super) use_cache: bool,
    pub(super) cancel: &'a Cancel,
    pub(super) reporter: &'a dyn Reporter,
    pub(super) state: &'a BuildState,
}

/// A placed tree to pack, and the facts for its cache entry.
struct Task {
    /// Its index among the layers.
    n: usize,
    description: String,
    size: u64,
    key: Option<LayerKey>,
    tree: LayerTree,
    index: FileIndex,
    lookups: Lookups,
    answers: Digest,
    assumed: Vec<String>,
}

impl Packer<'_> {
    /// Packs all layers with one thread per processor, the largest first, and adds them to `below`. The result is in
    /// the order of `work`, and its bytes do not depend on the threads.
    pub(super) fn pack(&self, work: Vec<LayerWork>, below: &mut LowerLayers) -> Result<Vec<BuiltLayer>, BuildError> {
        let (mut done, mut tasks) = (Vec::new(), Vec::new());
        for (n, work) in self.trees(work)?.into_iter().enumerate() {
            let known = self.known(&work.ingredients, &work.description, below);
            if let Some(layer) = known.map_err(|error| failed(&work.step, error))? {
                done.push(Some(layer));
                continue;
            }
            let task = self.place(n, work, below)?;
            below.push(&task.description, task.index.clone());
            done.push(None);
            tasks.push(task);
        }
        for (n, layer) in self.pack_all(tasks)? {
            done[n] = Some(layer);
        }
        done.into_iter().map(|packed| packed.ok_or(BuildError::Internal("a layer is not packed"))).collect()
    }

    /// Makes the trees of layers without a cache entry, in parallel. The other layers may be in the store.
    fn trees(&self, work: Vec<LayerWork>) -> Result<Vec<LayerWork>, BuildError> {
        let remembered = |work: &LayerWork| {
            self.cached_key(&work.ingredients).is_some_and(|key| !self.store.layers(&key).is_empty())
        };
        side_by_side(work, |mut work| {
            if !remembered(&work) {
                let made = |LayerPart { tree, rules }| Ok(LayerPart { tree: TreeSource::Made(tree.make()?), rules });
                let parts = work.parts.into_iter().map(made).collect::<Result<_, LayerError>>();
                work.parts = parts.map_err(|error| failed(&work.step, error))?;
            }
            Ok(work)
        })
    }

    fn place(&self, n: usize, work: LayerWork, below: &LowerLayers) -> Result<Task, BuildError> {
        let LayerWork { step, ingredients, description, size, parts, .. } = work;
        let (mut all, mut lookups, mut assumed) = (LayerTree::new(), Lookups::default(), Vec::new());
        let mut under = below.clone();
        let last = parts.len().saturating_sub(1);
        for (part, LayerPart { tree, rules }) in parts.into_iter().enumerate() {
            let tree = tree.make().map_err(|error| failed(&step, error))?;
            let Some(rules) = rules else {
                all = tree;
                continue;
            };
            let placed = place(tree, &under, &rules).map_err(|error| failed(&step, error))?;
            lookups.extend(placed.lookups);
            assumed.extend(placed.assumed);
            if part < last {
                under.push(&description, FileIndex::of(&placed.tree));
            }
            all.extend(placed.tree).map_err(|error| failed(&step, LayerError::from(error)))?;
        }
        let size = size.max(all.content_len());
        let (tree, answers) = (all, lookups.answers(below).map_err(|error| failed(&step, error))?);
        let assumed: Vec<String> = assumed.iter().map(LayerPath::to_string).collect();
        self.state.assume(&assumed);
        let (key, index, answers) = (self.key(&ingredients), FileIndex::of(&tree), Digest::of(&answers));
        Ok(Task { n, description, size, key, tree, index, lookups, answers, assumed })
    }

    /// Finds the layer in the store that an earlier build packed from the same inputs and layers below, and adds it to
    /// `below`.
    pub(super) fn known(
        &self,
        ingredients: &Option<Value>,
        description: &str,
        below: &mut LowerLayers,
    ) -> Result<Option<BuiltLayer>, PlaceError> {
        let Some(key) = self.cached_key(ingredients) else { return Ok(None) };
        for KnownLayer { layer, lookups, answers, assumed } in self.store.layers(&key) {
            let Some(lookups) = Lookups::parse(lookups.iter().map(String::as_str)) else { continue };
            if Digest::of(&lookups.answers(below)?) != answers {
                continue;
            }
            let Some(index) = self.store.index(&layer.diff_id) else { continue };
            if !self.is_sound(&layer, description) {
                continue;
            }
            self.reporter.task(description, Some(layer.descriptor.size)).done("cached");
            self.state.assume(&assumed);
            below.push(description, index);
            return Ok(Some(BuiltLayer { layer, description: description.to_owned(), cached: true }));
        }
        Ok(None)
    }

    fn is_sound(&self, layer: &Layer, description: &str) -> bool {
        let damage = match self.store.check_layer(&layer.descriptor) {
            Ok(BlobState::Sound) => return true,
            Ok(BlobState::Missing) => return false,
            Ok(BlobState::Damaged) => {
                format!("{} was damaged", self.store.layout().blob_path(&layer.descriptor.digest).display())
            }
            Err(error) => error.to_string(),
        };
        self.reporter.warn(&format!("the layer `{description}` in the store is unusable, building it again: {damage}"));
        false
    }

    /// The key of a layer, if the store may provide it.
    fn cached_key(&self, ingredients: &Option<Value>) -> Option<LayerKey> {
        self.key(ingredients).filter(|key| self.use_cache || self.state.has_packed(key))
    }

    fn key(&self, ingredients: &Option<Value>) -> Option<LayerKey> {
        let ingredients = ingredients.as_ref()?;
        let compression = format!("{:?}", self.compression);
        Some(LayerKey::of(&json!({"compression": compression, "ingredients": ingredients})))
    }

    fn pack_all(&self, mut tasks: Vec<Task>) -> Result<Vec<(usize, BuiltLayer)>, BuildError> {
        tasks.sort_by_key(|task| std::cmp::Reverse(task.size));
        // If there are more threads than layers, the other threads help to compress them.
        let helpers = processors().checked_div(tasks.len().min(processors())).unwrap_or(1);
        side_by_side(tasks, |task| self.pack_one(task, helpers))
    }

    fn pack_one(&self, task: Task, threads: usize) -> Result<(usize, BuiltLayer), BuildError> {
        let Task { n, description, size, key, tree, index, lookups, answers, assumed } = task;
        let progress = self.reporter.task(&description, Some(size));
        let layer = self.pack_tree(&tree, threads, &*progress).map_err(|source| match source {
            _ if self.cancel.is_cancelled() => BuildError::Interrupted,
            source => BuildError::Pack { layer: description.clone(), source },
        })?;
        if let Some(key) = key {
            let known = KnownLayer { layer: layer.clone(), lookups: lookups.lines(), answers, assumed };
            let remembered = self.store.remember_index(&layer.diff_id, &index);
            remembered.and_then(|()| self.store.remember(&key, known)).map_err(BuildError::Store)?;
            self.state.note_packed(key);
        }
        progress.done("packed");
        Ok((n, BuiltLayer { layer, description, cached: false }))
    }

    fn pack_tree(&self, tree: &LayerTree, threads: usize, task: &dyn Progress) -> Result<Layer, PackError> {
        let layout = self.store.layout();
        let mut blob = layout.writer().map_err(PackError::Write)?;
        let counted = Counted { inner: self.cancel.writer(blob.unhashed()), task };
        let layer = pack(tree, self.compression, threads, BufWriter::with_capacity(256 << 10, counted))?;
        blob.finish_as(&layer.descriptor.digest).map_err(PackError::Write)?;
        self.store.note_layer(&layer.descriptor.digest).map_err(PackError::Write)?;
        Ok(layer)
    }
}

/// Calls `each` for all items in order, with one thread per processor. After an error the threads start no more items.
/// The results are in the order of the items.
fn side_by_side<T: Send, R: Send>(
    items: Vec<T>,
    each: impl Fn(T) -> Result<R, BuildError> + Sync,
) -> Result<Vec<R>, BuildError> {
    let workers = processors().min(items.len());
    let queue = Mutex::new(items.into_iter().enumerate().rev().collect::<Vec<_>>());
    let results = Mutex::new(Vec::new());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((n, item)) = next() {
                    let result = each(item);
                    if result.is_err()
                        && let Ok(mut queue) = queue.lock()
                    {
                        queue.clear();
                    }
                    if let Ok(mut results) = results.lock() {
                        results.push((n, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Reports the number of written bytes.
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
