//! The store that builds work from: an OCI layout, downloaded wheels, and what is remembered between builds.
//!
//! ```text
//! layout/          blobs of layers, and the images built here
//! layers/KEY.json  which blobs layers of that key became
//! layers/ID.files  the files of the layer of that diff id
//! layers/ID.stamp  what the blob of that digest was like when it was packed
//! wheels/          wheels as they were downloaded
//! built/KEY/       wheels that were built here, by what went into them
//! facts/           what is known of bases, by manifest digest
//! bases/           where the bases of images are that were built here, by the images' manifest digests
//! roots/           unpacked layers, see [`Roots`]
//! stamps/          what unpacked layers were like when they were unpacked
//! containers/ID/   what belongs to one container
//! steps/ID/        what belongs to one step of a build while it runs
//! caches/          what steps keep for the next build, see [`Caches`]
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ociforge_layers::unpack::XattrSpace;
use ociforge_layers::{FileIndex, Layer};
use ociforge_manifests::document::canonical;
use ociforge_manifests::{DiffId, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::format::blob_name::BLOBS;
use super::{Caches, Layout, Roots, write_atomic};

/// Part of every key: to be changed when the same input would give other bytes.
const PACKER: &str = "3";

/// How long a temporary file may lie untouched before it is taken for the remains of a killed process.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    layout: Layout,
}

/// What a layer is made of, as a digest: the same key means the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerKey(Digest);

impl LayerKey {
    /// The key of a layer that is made of what `ingredients` says, and of nothing else.
    #[must_use]
    pub fn of(ingredients: &Value) -> Self {
        Self(Digest::of(&canonical(&serde_json::json!({"packer": PACKER, "of": ingredients}))))
    }
}

/// How many layers of one key are remembered: they lie on different layers.
const VARIANTS: usize = 16;

/// A layer that was packed before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownLayer {
    /// The packed layer.
    #[serde(flatten)]
    pub layer: Layer,
    /// What was looked up in the layers below, a line each; empty where nothing was.
    pub lookups: Vec<String>,
    /// The digest of what was found there. It is this layer only where the same is found.
    pub answers: Digest,
    /// The directories of the base whose attributes were assumed.
    pub assumed: Vec<String>,
}

impl Store {
    /// The store in `root`, made where it is missing.
    ///
    /// # Errors
    /// When the directory can't be made or written.
    pub fn open(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        let root = root.canonicalize()?;
        let layout = Layout::create(root.join("layout"))?;
        let store = Self { root, layout };
        store.sweep();
        Ok(store)
    }

    /// The store's directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layout that holds layers and images.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where downloaded wheels are.
    #[must_use]
    pub fn wheels(&self) -> PathBuf {
        self.root.join("wheels")
    }

    /// Where wheels are that were built here.
    #[must_use]
    pub fn built(&self) -> PathBuf {
        self.root.join("built")
    }

    /// Where facts about bases are.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.root.join("facts")
    }

    /// The unpacked layers of whoever has this `kind` of rights.
    #[must_use]
    pub fn roots(&self, kind: &str, space: XattrSpace) -> Roots {
        Roots::new(&self.root, kind, space)
    }

    /// Where the files of containers are, each in a directory of its own.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Where the files of steps that run are, each in a directory of its own.
    #[must_use]
    pub fn steps(&self) -> PathBuf {
        self.root.join("steps")
    }

    /// What steps keep for the next build.
    #[must_use]
    pub fn caches(&self) -> Caches {
        Caches::new(self.root.join("caches"))
    }

    /// Where temporary files may lie.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The same directory, made where it is missing.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn scratch(&self) -> io::Result<PathBuf> {
        let directory = self.temporary();
        fs::create_dir_all(&directory).map(|()| directory)
    }

    /// The layers of this key that were packed before and whose blobs are still there, the newest first. Whoever takes
    /// one has to [check](Self::check_layer) it.
    #[must_use]
    pub fn layers(&self, key: &LayerKey) -> Vec<KnownLayer> {
        let there = |known: &KnownLayer| self.layout.blob_size(&known.layer.descriptor.digest).is_some();
        self.remembered(key).into_iter().filter(there).collect()
    }

    /// Remembers that a layer of this key became this blob.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn remember(&self, key: &LayerKey, known: KnownLayer) -> io::Result<()> {
        let mut all = self.remembered(key);
        all.retain(|other| (&other.lookups, &other.answers) != (&known.lookups, &known.answers));
        all.insert(0, known);
        all.truncate(VARIANTS);
        write_atomic(&self.layer_path(key), &serde_json::to_vec(&all)?)
    }

    fn remembered(&self, key: &LayerKey) -> Vec<KnownLayer> {
        let read = |bytes: Vec<u8>| serde_json::from_slice(&bytes).ok();
        fs::read(self.layer_path(key)).ok().and_then(read).unwrap_or_default()
    }

    /// The files of a layer that was packed here, where they are known.
    #[must_use]
    pub fn index(&self, diff_id: &DiffId) -> Option<FileIndex> {
        FileIndex::open(&self.index_path(diff_id)).ok()
    }

    /// Remembers the files of a layer.
    ///
    /// # Errors
    /// When they can't be written.
    pub fn remember_index(&self, diff_id: &DiffId, index: &FileIndex) -> io::Result<()> {
        write_atomic(&self.index_path(diff_id), &index.to_file())
    }

    /// Remembers where the base of an image is whose manifest has this digest: the store has none of its layers.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn remember_base(&self, image: &Digest, base: &str) -> io::Result<()> {
        write_atomic(&base_path(&self.root, image), base.as_bytes())
    }

    /// The name of the base of an image that was built in the store in `root`, which need not be there.
    #[must_use]
    pub fn base_of(root: &Path, image: &Digest) -> Option<String> {
        fs::read_to_string(base_path(root, image)).ok()
    }

    fn layer_path(&self, key: &LayerKey) -> PathBuf {
        self.root.join("layers").join(format!("{}.json", key.0.hex()))
    }

    fn index_path(&self, diff_id: &DiffId) -> PathBuf {
        self.root.join("layers").join(format!("{}.files", diff_id.0.hex()))
    }

    /// Removes what killed processes left half-written. Failing to is no reason to fail.
    fn sweep(&self) {
        let blobs = self.layout.root().join(BLOBS).join("sha256");
        let roots = fs::read_dir(self.root.join("roots")).into_iter().flatten().flatten().map(|kind| kind.path());
        for directory in roots.chain([blobs, self.root.join("layers"), self.facts(), self.temporary()]) {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".tmp-")) {
                let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
                if age.is_some_and(|age| age > ABANDONED) {
                    let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
                }
            }
        }
    }
}

fn base_path(root: &Path, image: &Digest) -> PathBuf {
    root.join("bases").join(image.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ociforge_layers::{Compression, LayerTree, pack};
    use serde_json::json;

    #[test]
    fn a_layer_is_remembered_while_its_blob_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let key = LayerKey::of(&json!({"b": 1, "a": 2}));
        assert_eq!(key, LayerKey::of(&json!({"a": 2, "b": 1})));
        assert_eq!(store.layers(&key), []);

        let mut writer = store.layout().writer().unwrap();
        let layer = pack(&LayerTree::new(), Compression::None, 1, writer.unhashed()).unwrap();
        writer.finish_as(&layer.descriptor.digest).unwrap();
        let known = |answers: &str| KnownLayer {
            layer: layer.clone(),
            lookups: vec!["directory 61".into()],
            answers: Digest::of(answers.as_bytes()),
            assumed: Vec::new(),
        };
        for answers in ["a", "b", "a"] {
            store.remember(&key, known(answers)).unwrap();
        }
        assert_eq!(store.layers(&key), [known("a"), known("b")]);
        fs::remove_file(store.layout().blob_path(&layer.descriptor.digest)).unwrap();
        assert_eq!(store.layers(&key), []);
    }
}
