//! Layers to pack.

use std::path::Path;

use ociforge_layers::{LayerTree, PlacementRules};
use serde_json::Value;

use super::{LayerError, Step};

/// A layer to pack.
pub(crate) struct LayerWork {
    /// The step that it belongs to.
    pub(crate) step: Step,
    /// The inputs of the layer, without the compression and the layers below; `None` if they are unknown before the layer
    /// is made.
    pub(crate) ingredients: Option<Value>,
    /// The description for people and for the image's history.
    pub(crate) description: String,
    /// The approximate number of bytes to pack.
    pub(crate) size: u64,
    /// The trees of the layer, each on top of the previous one.
    pub(crate) parts: Vec<LayerPart>,
    /// Whether it can share a layer with its neighbour.
    pub(crate) joinable: bool,
}

/// A tree of a layer.
pub(crate) struct LayerPart {
    /// The tree, or a function that makes it.
    pub(crate) tree: TreeSource,
    /// The rules to place it onto the layers below; `None` for a tree that is placed already.
    pub(crate) rules: Option<PlacementRules>,
}

/// A tree, or a function that makes it.
pub(crate) enum TreeSource {
    /// A tree.
    Made(LayerTree),
    /// A function, which is called if the store does not have the layer.
    Later(Box<dyn FnOnce() -> Result<LayerTree, LayerError> + Send>),
}

impl LayerWork {
    /// The layer of a small tree.
    pub(super) fn of_tree(step: &Step, tree: LayerTree, rules: PlacementRules, ingredients: Option<Value>) -> Self {
        let (step, description, size) = (step.clone(), step.description.clone(), tree.content_len());
        let parts = vec![LayerPart { tree: TreeSource::Made(tree), rules: Some(rules) }];
        Self { step, ingredients, description, size, parts, joinable: true }
    }
}

impl TreeSource {
    pub(crate) fn make(self) -> Result<LayerTree, LayerError> {
        match self {
            Self::Made(tree) => Ok(tree),
            Self::Later(make) => make(),
        }
    }
}

/// Rejects a path that leads out of the recipe's directory, also through symbolic links.
pub(crate) fn stays_inside(directory: &Path, path: &Path) -> Result<(), LayerError> {
    let real = |path: &Path| path.canonicalize().map_err(|source| LayerError::Read { path: path.into(), source });
    if real(path)?.starts_with(real(directory)?) { Ok(()) } else { Err(LayerError::Outside(path.into())) }
}
