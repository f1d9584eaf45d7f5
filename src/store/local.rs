//! The store of builds: an OCI layout, downloaded wheels, and cached data of builds.
//!
//! ```text
//! layout/          blobs of layers, and the images built here
//! layers/KEY.json  the blobs of layers with that key
//! layers/ID.files  the files of the layer with that diff id
//! layers/ID.stamp  the state of the blob with that digest when it was packed
//! wheels/          downloaded wheels
//! built/KEY/       wheels built here, by the digest of their inputs
//! facts/           facts about bases, by manifest digest
//! bases/           the names of the bases of images built here, by the images' manifest digests
//! roots/           unpacked layers, see [`Roots`]
//! stamps/          the states of unpacked layers when they were unpacked
//! containers/ID/   the directory of one container
//! steps/ID/        the directory of one running step of a build
//! caches/          directories that steps keep for the next build, see [`Caches`]
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ociforge_layers::unpack::XattrSpace;
use ociforge_layers::{FileIndex, Layer};
use ociforge_manifests::document::canonical;
use ociforge_manifests::{DiffId, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::abandoned::{DAY, remove_abandoned};
use super::format::blob_name::BLOBS;
use super::{Caches, FileHashes, Layout, Roots, write_atomic};

/// The version in every key: it changes when the same input gives other bytes.
const PACKER: &str = "3";

/// The store.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    layout: Layout,
}

/// The digest of a layer's inputs: the same key means the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LayerKey(Digest);

impl LayerKey {
    /// The key of a layer with exactly these `ingredients`.
    #[must_use]
    pub fn of(ingredients: &Value) -> Self {
        Self(Digest::of(&canonical(&serde_json::json!({"packer": PACKER, "of": ingredients}))))
    }
}

/// The maximum number of stored layers per key: they differ in the layers below.
const VARIANTS: usize = 16;

/// A layer from an earlier build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KnownLayer {
    /// The packed layer.
    #[serde(flatten)]
    pub layer: Layer,
    /// The lookups in the layers below, one per line; empty without lookups.
    pub lookups: Vec<String>,
    /// The digest of the answers. The layer is valid only for the same answers.
    pub answers: Digest,
    /// The directories of the base whose attributes were assumed.
    pub assumed: Vec<String>,
}

impl Store {
    /// Opens the store in `root`, and creates it if it is missing.
    ///
    /// # Errors
    /// When the directory cannot be created or written.
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

    /// The directory of downloaded wheels.
    #[must_use]
    pub fn wheels(&self) -> PathBuf {
        self.root.join("wheels")
    }

    /// The known hashes of files outside of the store.
    #[must_use]
    pub fn file_hashes(&self) -> FileHashes {
        FileHashes::new(self.root.join("hashes"))
    }

    /// The directory of wheels that were built here.
    #[must_use]
    pub fn built(&self) -> PathBuf {
        self.root.join("built")
    }

    /// The directory of facts about bases.
    #[must_use]
    pub fn facts(&self) -> PathBuf {
        self.root.join("facts")
    }

    /// The unpacked layers for this `kind` of rights.
    #[must_use]
    pub fn roots(&self, kind: &str, space: XattrSpace) -> Roots {
        Roots::new(&self.root, kind, space)
    }

    /// The directory of containers, with a directory for each.
    #[must_use]
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The directory of running steps, with a directory for each.
    #[must_use]
    pub fn steps(&self) -> PathBuf {
        self.root.join("steps")
    }

    /// The caches of steps.
    #[must_use]
    pub fn caches(&self) -> Caches {
        Caches::new(self.root.join("caches"))
    }

    /// The directory of temporary files.
    #[must_use]
    pub fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// As [`Self::temporary`], created if it is missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn scratch(&self) -> io::Result<PathBuf> {
        let directory = self.temporary();
        fs::create_dir_all(&directory).map(|()| directory)
    }

    /// The stored layers of this key whose blobs exist, the newest first. The caller must [check](Self::check_layer) a
    /// layer before its use.
    #[must_use]
    pub fn layers(&self, key: &LayerKey) -> Vec<KnownLayer> {
        let there = |known: &KnownLayer| self.layout.blob_size(&known.layer.descriptor.digest).is_some();
        self.remembered(key).into_iter().filter(there).collect()
    }

    /// Records that a layer of this key is this blob.
    ///
    /// # Errors
    /// When it cannot be written.
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

    /// The files of a packed layer, if they are known.
    #[must_use]
    pub fn index(&self, diff_id: &DiffId) -> Option<FileIndex> {
        FileIndex::open(&self.index_path(diff_id)).ok()
    }

    /// Records the files of a layer.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn remember_index(&self, diff_id: &DiffId, index: &FileIndex) -> io::Result<()> {
        write_atomic(&self.index_path(diff_id), &index.to_file())
    }

    /// Records the base of the image of this manifest digest: the store does not have the base's layers.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember_base(&self, image: &Digest, base: &str) -> io::Result<()> {
        write_atomic(&base_path(&self.root, image), base.as_bytes())
    }

    /// The name of the base of an image that was built with the store in `root`, which may not exist.
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

    /// Removes temporary files of killed processes. Errors are ignored.
    fn sweep(&self) {
        let blobs = self.layout.root().join(BLOBS).join("sha256");
        let roots = fs::read_dir(self.root.join("roots")).into_iter().flatten().flatten().map(|kind| kind.path());
        for directory in roots.chain([blobs, self.root.join("layers"), self.facts(), self.temporary()]) {
            remove_abandoned(&directory, DAY, |name| name.as_encoded_bytes().starts_with(b".tmp-"));
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
