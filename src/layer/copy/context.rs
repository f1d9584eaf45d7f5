//! Copies from the recipe's directory.

use std::path::{Path, PathBuf};

use ociforge_layers::place::FileRule;
use ociforge_layers::source::directory::{DirectoryOptions, Exclusion, take};
use ociforge_layers::source::ignore::Patterns;
use ociforge_layers::{LayerPath, PlacementRules};
use serde_json::json;

use super::Copy;
use crate::layer::stamp::tree_stamp;
use crate::layer::{LayerContext, LayerError, LayerWork, Step, stays_inside};
use crate::progress::Reporter;
use crate::tables::Owner;

impl Copy {
    /// The layer of a copy from the recipe's directory.
    pub(super) fn of_context(
        &self,
        from: &Path,
        step: &Step,
        context: &LayerContext<'_>,
    ) -> Result<LayerWork, LayerError> {
        let options = self.options(from, context)?;
        let path = context.directory.join(from);
        stays_inside(context.directory, &path)?;
        let taken = take(&path, &self.to, &options)?;
        warn_of_sockets(&taken.sockets, step, context.reporter);
        let files = match path.file_name() {
            _ if path.is_dir() => FileRule::Replace,
            Some(name) if !self.to.into => FileRule::Into(name.as_encoded_bytes().to_vec()),
            _ => FileRule::Follow,
        };
        let rules = PlacementRules { files, directories: self.directory_rule(), mtime: options.mtime };
        let ingredients = tree_stamp(&taken.tree).map(|stamp| json!({"copy": stamp, "rules": format!("{rules:?}")}));
        Ok(LayerWork::of_tree(step, taken.tree, rules, ingredients))
    }

    fn options(&self, from: &Path, context: &LayerContext<'_>) -> Result<DirectoryOptions, LayerError> {
        let source = LayerPath::new(from.as_os_str().as_encoded_bytes());
        let source = source.map_err(|_| LayerError::Outside(from.to_owned()))?;
        let malformed = |place| move |source| LayerError::Pattern { place, source };
        let ignored = Patterns::of_directory(context.directory).map_err(malformed(".dockerignore"))?;
        let excluded = Patterns::new(&self.exclude).map_err(malformed("exclude"))?;
        let exclude =
            vec![Exclusion { patterns: ignored, source }, Exclusion { patterns: excluded, source: LayerPath::root() }];
        let (owner, mtime) = (self.owner.map(Owner::ids), context.epoch.seconds());
        Ok(DirectoryOptions { exclude, owner, mode: self.mode, mtime, special: true })
    }
}

/// Warns about skipped sockets, and names the first few.
fn warn_of_sockets(sockets: &[PathBuf], step: &Step, reporter: &dyn Reporter) {
    const NAMED: usize = 3;
    let mut names: Vec<_> = sockets.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    match sockets.len() {
        0 => return,
        count if count > NAMED => names.push(format!("and {} more", count - NAMED)),
        _ => {}
    }
    reporter.warn(&format!("`{}` leaves out sockets, which no layer can have: {}", step.description, names.join(", ")));
}
