//! `directories`: creates directories.

use ociforge_layers::place::{DirectoryRule, FileRule};
use ociforge_layers::{LayerPath, LayerTree, Metadata, NodeKind, PlacementRules, TreeNode};

use super::{LayerContext, LayerError, LayerKind, LayerWork, RecipeForm, StageNames, Step};
use crate::tables::PlanError;
use crate::tables::fields::{Table, Value};
use crate::tables::values::{Owner, mode, owner, path};

/// Directories to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// The directories; none of them is the root.
    pub paths: Vec<LayerPath>,
    /// Their mode; `None` gives new ones 0755.
    pub mode: Option<u32>,
    /// Their owner; `None` gives new ones to root.
    pub owner: Option<Owner>,
}

impl RecipeForm for Directories {
    const KEY: &'static str = "directories";
    const OPTIONS: &'static [&'static str] = &["mode", "owner"];

    fn read(value: &Value<'_>, layer: &Table<'_>, _stages: &StageNames) -> Result<(Self, String), PlanError> {
        let items = value.items()?;
        if items.is_empty() {
            return Err(value.unexpected("at least one directory", None));
        }
        let mut paths = Vec::with_capacity(items.len());
        let mut description = "directories".to_owned();
        for item in items {
            let path = path(&item)?;
            if path.is_root() {
                return Err(item.unexpected("a directory below `/`", None));
            }
            description.push_str(&format!(" {path}"));
            paths.push(path);
        }
        let mode = layer.get("mode").map(|value| mode(&value)).transpose()?;
        let owner = layer.get("owner").map(|value| owner(&value)).transpose()?;
        Ok((Self { paths, mode, owner }, description))
    }
}

impl LayerKind for Directories {
    fn work(&self, step: &Step, context: &LayerContext<'_>) -> Result<Option<LayerWork>, LayerError> {
        let mtime = context.epoch.seconds();
        let owner = self.owner.map(Owner::ids);
        let (uid, gid) = owner.unwrap_or((0, 0));
        let mut tree = LayerTree::new();
        for path in &self.paths {
            let metadata = Metadata { uid, gid, ..Metadata::root(self.mode.unwrap_or(0o755), mtime) };
            tree.insert(path.clone(), TreeNode { metadata, kind: NodeKind::Directory { opaque: false } })?;
        }
        let directories = DirectoryRule::Change { mode: self.mode, owner };
        let rules = PlacementRules { files: FileRule::Replace, directories, mtime };
        // No cache key: making directories is cheaper than a lookup.
        Ok(Some(LayerWork::of_tree(step, tree, rules, None)))
    }
}
