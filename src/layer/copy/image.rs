//! Copies from a stage or an image: its layers are read as streams, without unpacking them.

use std::sync::Arc;

use ociforge_layers::place::FileRule;
use ociforge_layers::source::directory::DirectoryError;
use ociforge_layers::source::ignore::Patterns;
use ociforge_layers::source::image::ImageFiles;
use ociforge_layers::{LayerPath, LayerTree, NodeKind, PlacementRules, TreeNode};
use ociforge_manifests::{Descriptor, DiffId};
use serde_json::json;
use tokio::runtime::Handle;

use super::Copy;
use crate::content::Source;
use crate::layer::{LayerContext, LayerError, LayerPart, LayerWork, Step, TreeSource};
use crate::progress::Reporter;
use crate::rootfs::files::read_files;
use crate::store::Layout;
use crate::tables::Owner;
use crate::transfer::Overlay;

/// The layers of a stage or an image that files are copied from.
#[derive(Clone)]
pub(crate) struct SourceImage {
    /// Its diff ids, which stand for its content in cache keys.
    pub(crate) diff_ids: Vec<DiffId>,
    /// The path after its symbolic links, if it is known: they may be in other layers than the files.
    pub(crate) path: Option<LayerPath>,
    /// The layers that can have files at the path, lowest first.
    pub(crate) layers: Vec<Descriptor>,
    /// The store, which may have the layers.
    pub(crate) store: Layout,
    /// The source of layers that are not in the store.
    pub(crate) source: Option<Arc<dyn Source>>,
    /// Receives the progress of reading.
    pub(crate) reporter: Arc<dyn Reporter>,
    /// Runs the transfer.
    pub(crate) runtime: Handle,
}

impl Copy {
    /// The layer of a copy from a stage or an image. Its files keep their modes, times and extended attributes.
    pub(super) fn of_image(
        &self,
        from: &LayerPath,
        step: &Step,
        context: &LayerContext<'_>,
    ) -> Result<LayerWork, LayerError> {
        let Some(source) = context.source.cloned() else { return Err(LayerError::NoSource(from.clone())) };
        // The name of a file is that of `from`, also if it is a symbolic link to a file of another name.
        let files = match self.to.into {
            true => FileRule::Follow,
            false => FileRule::Into(from.file_name().to_vec()),
        };
        let rules = PlacementRules { files, directories: self.directory_rule(), mtime: context.epoch.seconds() };
        let ingredients = json!({
            "copy": source.diff_ids,
            "from": from.to_string(),
            "to": [json!(self.to.path.to_string()), json!(self.to.into)],
            "exclude": self.exclude,
            "owner": self.owner.map(|Owner { uid, gid }| [uid, gid]),
            "mode": self.mode,
            "rules": format!("{rules:?}"),
        });
        let (copy, from, scratch) = (self.clone(), from.clone(), context.scratch.to_owned());
        let make = move || {
            let below = Overlay::new(&[], &source.store, source.source.as_deref());
            let path = source.path.as_ref().unwrap_or(&from);
            let read = read_files(&source.layers, &below, path, &scratch, &*source.reporter);
            copy.tree(source.runtime.block_on(read)?, &from)
        };
        let parts = vec![LayerPart { tree: TreeSource::Later(Box::new(make)), rules: Some(rules) }];
        let (step, description) = (step.clone(), step.description.clone());
        Ok(LayerWork { step, ingredients: Some(ingredients), description, size: 0, parts, joinable: false })
    }

    /// The tree at the destination.
    fn tree(&self, files: ImageFiles, from: &LayerPath) -> Result<LayerTree, LayerError> {
        let is_directory = files.is_directory();
        let to = match self.to.into && !is_directory {
            true => self.to.path.join(from.file_name())?,
            false => self.to.path.clone(),
        };
        if to.is_root() && !is_directory {
            return Err(LayerError::FileAsRoot(from.clone()));
        }
        let patterns = Patterns::new(&self.exclude);
        let patterns = patterns.map_err(|source| LayerError::Pattern { place: "exclude", source })?;
        if !is_directory && patterns.exclude(from.file_name()) {
            return Err(DirectoryError::Excluded(from.to_string().into()).into());
        }
        let mut tree = LayerTree::new();
        for (path, node) in files.tree(&to, &patterns)?.into_entries() {
            tree.insert(path, self.with_attributes(node))?;
        }
        Ok(tree)
    }

    fn with_attributes(&self, mut node: TreeNode) -> TreeNode {
        let metadata = &mut node.metadata;
        (metadata.uid, metadata.gid) = self.owner.map_or((0, 0), Owner::ids);
        if let Some(mode) = self.mode {
            metadata.mode = match node.kind {
                NodeKind::Directory { .. } => mode | (mode & 0o444) >> 2,
                NodeKind::Symlink(_) => metadata.mode,
                _ => mode,
            };
        }
        node
    }
}
