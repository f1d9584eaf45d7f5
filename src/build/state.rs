//! The state of one build. A build may start its layers again, if it detects late that it must read the base. Then it
//! does not pack finished layers twice, and prints each warning once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use ociforge_layers::FileIndex;
use ociforge_manifests::Digest;
use ociforge_manifests::lint::Finding;

use crate::base::BaseImage;
use crate::progress::{Progress, Reporter};
use crate::python::install::LocalWheel;
use crate::store::LayerKey;

/// The name of an image, `None` for `scratch`, its platform, and its pinned digest.
type ImageKey = (Option<String>, String, Option<Digest>);

/// The state that all parts of one build share.
#[derive(Default)]
pub struct BuildState {
    resolved: Mutex<BTreeMap<ImageKey, BaseImage>>,
    runs_on: Mutex<BTreeSet<Digest>>,
    assumed: Mutex<BTreeSet<String>>,
    wheels: Mutex<Vec<LocalWheel>>,
    packed: Mutex<BTreeSet<LayerKey>>,
    read: Mutex<BTreeMap<Digest, FileIndex>>,
}

impl BuildState {
    /// An image that this build has resolved.
    pub(super) fn resolved(&self, key: &ImageKey) -> Option<BaseImage> {
        self.resolved.lock().ok()?.get(key).cloned()
    }

    /// Adds an image that this build has resolved.
    pub(super) fn note_resolved(&self, key: ImageKey, image: BaseImage) {
        if let Ok(mut resolved) = self.resolved.lock() {
            resolved.insert(key, image);
        }
    }

    /// Adds paths of the base with assumed attributes.
    pub(super) fn assume(&self, paths: &[String]) {
        if let Ok(mut assumed) = self.assumed.lock() {
            assumed.extend(paths.iter().cloned());
        }
    }

    /// Takes the paths of the base with assumed attributes, sorted.
    pub(super) fn take_assumed(&self) -> Vec<String> {
        self.assumed.lock().map(|mut assumed| std::mem::take(&mut *assumed).into_iter().collect()).unwrap_or_default()
    }

    /// Adds a base that this build runs steps on, by the digest of its manifest.
    pub(super) fn note_runs_on(&self, base: Digest) {
        if let Ok(mut bases) = self.runs_on.lock() {
            bases.insert(base);
        }
    }

    /// Whether this build runs steps on the base.
    pub(super) fn runs_on(&self, base: &Digest) -> bool {
        self.runs_on.lock().is_ok_and(|bases| bases.contains(base))
    }

    /// Adds the files of a base that this build has read for a copy, by the digest of its manifest.
    pub(super) fn note_read(&self, base: Digest, files: FileIndex) {
        if let Ok(mut read) = self.read.lock() {
            read.insert(base, files);
        }
    }

    /// The files of a base, if this build has read them for a copy.
    pub(super) fn read(&self, base: &Digest) -> Option<FileIndex> {
        self.read.lock().ok()?.get(base).cloned()
    }

    /// Adds wheels that this build installs.
    pub(super) fn note_wheels(&self, wheels: &[LocalWheel]) {
        if let Ok(mut all) = self.wheels.lock() {
            all.extend(wheels.iter().cloned());
        }
    }

    /// The wheels that this build installs; a wheel may repeat.
    pub(super) fn wheels(&self) -> Vec<LocalWheel> {
        self.wheels.lock().map(|wheels| wheels.clone()).unwrap_or_default()
    }

    /// Adds a layer that this build has packed.
    pub(super) fn note_packed(&self, key: LayerKey) {
        if let Ok(mut packed) = self.packed.lock() {
            packed.insert(key);
        }
    }

    /// Whether this build has packed that layer.
    pub(super) fn has_packed(&self, key: &LayerKey) -> bool {
        self.packed.lock().is_ok_and(|packed| packed.contains(key))
    }
}

/// A reporter that prints each warning once.
pub(super) struct Unrepeated {
    inner: Arc<dyn Reporter>,
    said: Mutex<BTreeSet<String>>,
}

impl Unrepeated {
    pub(super) fn new(inner: Arc<dyn Reporter>) -> Self {
        Self { inner, said: Mutex::default() }
    }
}

impl Reporter for Unrepeated {
    fn task(&self, label: &str, total: Option<u64>) -> Box<dyn Progress> {
        self.inner.task(label, total)
    }

    fn note(&self, text: &str) {
        self.inner.note(text);
    }

    fn warn(&self, text: &str) {
        if self.said.lock().is_ok_and(|mut said| said.insert(text.to_owned())) {
            self.inner.warn(text);
        }
    }

    fn finding(&self, finding: &Finding) {
        self.inner.finding(finding);
    }
}
