//! `tar`: adds the content of a tar archive.

use std::path::{Component, Path, PathBuf};

use ociforge_layers::PlacementRules;
use ociforge_layers::place::{DirectoryRule, FileRule};
use ociforge_layers::regular::open_regular;
use ociforge_layers::source::tar::{TarOptions, read_tar};
use serde_json::json;

use super::stamp::file_stamp;
use super::{
    LayerContext, LayerError, LayerKind, LayerPart, LayerWork, RecipeForm, StageNames, Step, TreeSource, stays_inside,
};
use crate::tables::PlanError;
use crate::tables::fields::{Table, Value};
use crate::tables::values::file;

/// A tar archive to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarArchive {
    /// The archive, relative to the recipe's directory.
    pub file: PathBuf,
}

impl RecipeForm for TarArchive {
    const KEY: &'static str = "tar";

    fn read(value: &Value<'_>, _layer: &Table<'_>, _stages: &StageNames) -> Result<(Self, String), PlanError> {
        let file = file(value)?;
        let description = format!("tar {}", file.display());
        Ok((Self { file }, description))
    }
}

impl LayerKind for TarArchive {
    /// Does not read the archive: the store may have the layer.
    fn work(&self, step: &Step, context: &LayerContext<'_>) -> Result<Option<LayerWork>, LayerError> {
        let file = context.directory.join(&self.file);
        if !is_root_filesystem(context, &file) {
            stays_inside(context.directory, &file)?;
        }
        let unreadable = |source| LayerError::Read { path: file.clone(), source };
        let metadata = open_regular(&file).and_then(|file| file.metadata()).map_err(unreadable)?;
        let latest = context.epoch.stated();
        let ingredients = file_stamp(&file).map(|stamp| json!({"tar": stamp, "latest": latest}));
        let scratch = context.scratch.to_owned();
        let tree = TreeSource::Later(Box::new(move || Ok(read_tar(&file, &TarOptions { scratch: &scratch, latest })?)));
        // The attributes of directories in the archive apply.
        let mtime = context.epoch.seconds();
        let rules = PlacementRules { files: FileRule::Replace, directories: DirectoryRule::Replace, mtime };
        let (step, description) = (step.clone(), step.description.clone());
        let parts = vec![LayerPart { tree, rules: Some(rules) }];
        Ok(Some(LayerWork { step, ingredients, description, size: metadata.len(), parts, joinable: false }))
    }
}

/// Whether the archive serves as the base: the first layer of an image from scratch. Like a base in a layout it may be
/// outside of the recipe's directory, but only if the recipe says so, and not through a link.
fn is_root_filesystem(context: &LayerContext<'_>, file: &Path) -> bool {
    context.is_lowest && is_lexically_outside(context.directory, file)
}

/// Whether a path leads out of a directory without a link.
fn is_lexically_outside(directory: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(directory) else { return true };
    let mut depth = 0_i64;
    below.components().any(|component| {
        depth += if component == Component::ParentDir { -1 } else { 1 };
        depth < 0
    })
}
