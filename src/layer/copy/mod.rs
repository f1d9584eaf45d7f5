//! `copy`: copies a file or the content of a directory, from the recipe's directory, a stage or an image.

mod context;
mod image;

use std::path::PathBuf;

use ociforge_layers::LayerPath;
use ociforge_layers::place::DirectoryRule;
use ociforge_layers::source::directory::CopyDestination;
use ociforge_layers::source::ignore::Patterns;
use ociforge_manifests::ImageName;
use toml::de::DeValue;

pub(crate) use image::SourceImage;

use super::{LayerContext, LayerError, LayerKind, LayerWork, RecipeForm, StageNames, Step};
use crate::tables::PlanError;
use crate::tables::fields::{Table, Value};
use crate::tables::values::{Owner, absolute, file, mode, owner, path};

/// A file or directory to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The source.
    pub from: CopySource,
    /// The destination.
    pub to: CopyDestination,
    /// Patterns of excluded files, relative to `from`. For the recipe's directory those of `.dockerignore` apply, too.
    pub exclude: Vec<String>,
    /// The owner; `None` is root.
    pub owner: Option<Owner>,
    /// The mode of files. `None` is 0755 for executable files and 0644 for others of the recipe's directory, and the
    /// mode in the stage or image for others.
    pub mode: Option<u32>,
}

/// The source of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopySource {
    /// A file or directory, relative to the recipe's directory.
    Context(PathBuf),
    /// A file or directory of a stage or an image.
    Image(ImageOrigin, LayerPath),
}

/// A stage or an image that files are copied from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOrigin {
    /// The stage with this index.
    Stage(usize),
    /// An image. Its path, if any, is relative to the recipe's directory.
    Image(ImageName),
}

impl RecipeForm for Copy {
    const KEY: &'static str = "copy";
    const INNER: &'static [&'static str] = &["from", "to", "exclude", "owner", "mode", "stage", "image"];

    fn read(value: &Value<'_>, _layer: &Table<'_>, stages: &StageNames) -> Result<(Self, String), PlanError> {
        const EXAMPLE: &str = "copy = { from = \"src\", to = \"/code\" }";
        if !matches!(value.raw(), DeValue::Table(_)) {
            return Err(value.unexpected("a table", Some(format!("write for example `{EXAMPLE}`"))));
        }
        let table = value.table("`copy`")?.only(Self::INNER)?;
        let (from, to) = (table.require("from", EXAMPLE)?, table.require("to", EXAMPLE)?);
        if let DeValue::Array(_) = from.raw() {
            return Err(from.unexpected("one file or directory", Some("make a [[layer]] of each".into())));
        }
        let (from, source) = source(&from, &table, stages)?;
        let text = absolute(&to)?;
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
        Ok((copy, format!("copy {source} {text}")))
    }
}

/// Reads the source, and returns its description.
fn source(from: &Value<'_>, table: &Table<'_>, stages: &StageNames) -> Result<(CopySource, String), PlanError> {
    let (origin, name) = match (table.get("stage"), table.get("image")) {
        (None, None) => {
            let path = file(from)?;
            let shown = path.display().to_string();
            return Ok((CopySource::Context(path), shown));
        }
        (Some(_), Some(image)) => {
            return Err(image.unfit("beside `stage`", "one of the two: a copy has one source", None));
        }
        (Some(stage), None) => (ImageOrigin::Stage(stages.find(&stage)?), stage.line_of_text()?.to_owned()),
        (None, Some(image)) => {
            if image.line_of_text()? == "scratch" {
                return Err(image.unexpected("the name of an image: `scratch` has no files", None));
            }
            let parsed = image.line_of_text()?.parse::<ImageName>();
            let name = parsed.map_err(|error| {
                image.unexpected("an image name such as `debian:12` or `oci:DIR:TAG`", Some(error.why))
            })?;
            let shown = name.to_string();
            (ImageOrigin::Image(name), shown)
        }
    };
    let path = path(from)?;
    let shown = format!("--from={name} {path}");
    Ok((CopySource::Image(origin, path), shown))
}

impl Copy {
    /// A copy with a mode or an owner also sets those of directories that earlier layers of the recipe created.
    fn directory_rule(&self) -> DirectoryRule {
        match self.mode.is_some() || self.owner.is_some() {
            true => DirectoryRule::KeepBase,
            false => DirectoryRule::KeepAll,
        }
    }
}

impl LayerKind for Copy {
    fn work(&self, step: &Step, context: &LayerContext<'_>) -> Result<Option<LayerWork>, LayerError> {
        match &self.from {
            CopySource::Context(from) => self.of_context(from, step, context).map(Some),
            CopySource::Image(_, path) => self.of_image(path, step, context).map(Some),
        }
    }

    fn copies_from(&self) -> Option<(&ImageOrigin, &LayerPath)> {
        match &self.from {
            CopySource::Context(_) => None,
            CopySource::Image(origin, path) => Some((origin, path)),
        }
    }

    fn lock_directory(&self) -> Option<&LayerPath> {
        self.copies_from().map(|_| &self.to.path)
    }
}
