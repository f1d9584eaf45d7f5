//! `copy`: copies a file or the content of a directory.

use std::path::PathBuf;

use ociforge_layers::place::{DirectoryRule, FileRule};
use ociforge_layers::source::directory::{CopyDestination, DirectoryOptions, Exclusion, take};
use ociforge_layers::source::ignore::Patterns;
use ociforge_layers::{LayerPath, PlacementRules};
use serde_json::json;
use toml::de::DeValue;

use super::stamp::tree_stamp;
use super::{LayerContext, LayerError, LayerKind, LayerWork, RecipeForm, Step, stays_inside};
use crate::progress::Reporter;
use crate::tables::PlanError;
use crate::tables::fields::{Table, Value};
use crate::tables::values::{Owner, absolute, file, mode, owner};

/// A file or directory to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The source, relative to the recipe's directory.
    pub from: PathBuf,
    /// The destination.
    pub to: CopyDestination,
    /// Patterns of excluded files, relative to `from`, in addition to those of `.dockerignore`.
    pub exclude: Vec<String>,
    /// The owner; `None` is root.
    pub owner: Option<Owner>,
    /// The mode of files; `None` is 0755 for executable files and 0644 for others.
    pub mode: Option<u32>,
}

impl RecipeForm for Copy {
    const KEY: &'static str = "copy";
    const INNER: &'static [&'static str] = &["from", "to", "exclude", "owner", "mode"];

    fn read(value: &Value<'_>, _layer: &Table<'_>) -> Result<(Self, String), PlanError> {
        const EXAMPLE: &str = "copy = { from = \"src\", to = \"/code\" }";
        if !matches!(value.raw(), DeValue::Table(_)) {
            return Err(value.unexpected("a table", Some(format!("write for example `{EXAMPLE}`"))));
        }
        let table = value.table("`copy`")?.only(Self::INNER)?;
        let (from, to) = (table.require("from", EXAMPLE)?, table.require("to", EXAMPLE)?);
        if let DeValue::Array(_) = from.raw() {
            return Err(from.unexpected("one file or directory", Some("make a [[layer]] of each".into())));
        }
        let from = file(&from)?;
        let text = absolute(&to)?;
        let description = format!("copy {} {text}", from.display());
        let destination = text.parse::<CopyDestination>();
        let mut exclude = Vec::new();
        for item in table.get("exclude").map_or_else(|| Ok(Vec::new()), |value| value.items())? {
            let pattern = item.line_of_text()?;
            let checked = Patterns::new([pattern]);
            checked.map_err(|error| item.unexpected("a pattern as in .dockerignore", Some(error.to_string())))?;
            exclude.push(pattern.to_owned());
        }
        let copy = Self {
            from,
            to: destination.map_err(|error| to.unexpected("an absolute path in the image", Some(error.to_string())))?,
            exclude,
            owner: table.get("owner").map(|value| owner(&value)).transpose()?,
            mode: table.get("mode").map(|value| mode(&value)).transpose()?,
        };
        Ok((copy, description))
    }
}

impl LayerKind for Copy {
    fn work(&self, step: &Step, context: &LayerContext<'_>) -> Result<Option<LayerWork>, LayerError> {
        let options = self.options(context)?;
        let path = context.directory.join(&self.from);
        stays_inside(context.directory, &path)?;
        let taken = take(&path, &self.to, &options)?;
        warn_of_sockets(&taken.sockets, step, context.reporter);
        let files = match path.file_name() {
            _ if path.is_dir() => FileRule::Replace,
            Some(name) if !self.to.into => FileRule::Into(name.as_encoded_bytes().to_vec()),
            _ => FileRule::Follow,
        };
        // A copy with a mode or an owner also sets those of directories that earlier layers of the recipe created.
        let stated = self.mode.is_some() || self.owner.is_some();
        let directories = if stated { DirectoryRule::KeepBase } else { DirectoryRule::KeepAll };
        let rules = PlacementRules { files, directories, mtime: options.mtime };
        let ingredients = tree_stamp(&taken.tree).map(|stamp| json!({"copy": stamp, "rules": format!("{rules:?}")}));
        Ok(Some(LayerWork::of_tree(step, taken.tree, rules, ingredients)))
    }
}

impl Copy {
    fn options(&self, context: &LayerContext<'_>) -> Result<DirectoryOptions, LayerError> {
        let source = LayerPath::new(self.from.as_os_str().as_encoded_bytes());
        let source = source.map_err(|_| LayerError::Outside(self.from.clone()))?;
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
