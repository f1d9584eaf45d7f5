//! The kinds of layers. One module holds everything about a kind: its form in a recipe, its part of the lock's digest, its
//! cache key, and how it becomes a tree. A new kind that only needs files is a module and a line of
//! [`StepKind`]; `build` resolves packages and runs processes.

mod archive;
mod copy;
mod directories;
mod epoch;
mod error;
mod mounts;
mod python;
mod run;
mod stamp;
mod step_config;
mod work;

use std::path::Path;
use std::sync::LazyLock;

use ociforge_layers::LayerPath;
use serde_json::Value as Json;
use toml::de::DeValue;

use crate::progress::Reporter;
use crate::tables::fields::{Table, Value};
use crate::tables::values::boolean;
use crate::tables::{PlanError, TableFault};

pub use archive::TarArchive;
pub(crate) use copy::SourceImage;
pub use copy::{Copy, CopySource, ImageOrigin};
pub use directories::Directories;
pub use epoch::{Epoch, EpochError};
pub use error::LayerError;
pub use mounts::{MountKind, StepMount, is_secret_id};
pub use python::{PROJECT_FILES, Pip, PylockSelection};
pub use run::{Run, StepCommand};
pub(crate) use step_config::StageNames;
pub use step_config::StepConfig;
pub(crate) use work::{LayerPart, LayerWork, TreeSource, stays_inside};

/// The form of a kind in a recipe.
trait RecipeForm: Sized {
    /// The key that gives a `[[layer]]` this kind.
    const KEY: &'static str;
    /// The other keys of such a `[[layer]]`.
    const OPTIONS: &'static [&'static str] = &[];
    /// The keys of the table that is the value of `KEY`, if it can be one.
    const INNER: &'static [&'static str] = &[];

    /// Reads the value of `KEY`. Returns the kind, and a description in one line without credentials. `stages` are those
    /// before the layer's own.
    fn read(value: &Value<'_>, layer: &Table<'_>, stages: &StageNames) -> Result<(Self, String), PlanError>;
}

/// What a build needs to know of a kind.
pub(crate) trait LayerKind {
    /// The layer, if its content needs neither packages nor a process.
    fn work(&self, _step: &Step, _context: &LayerContext<'_>) -> Result<Option<LayerWork>, LayerError> {
        Ok(None)
    }

    /// The inputs of the resolution, for the digest of the lock; `None` if there is nothing to resolve.
    fn lock_inputs(&self) -> Option<Json> {
        None
    }

    /// The requirements file to resolve, relative to the recipe's directory.
    fn requirements_file(&self) -> Option<&Path> {
        None
    }

    /// The directory of the project to build, relative to the recipe's directory.
    fn project(&self) -> Option<&Path> {
        None
    }

    /// The ids of the secrets that the step sees; an id may repeat.
    fn secrets(&self) -> Vec<&str> {
        Vec::new()
    }

    /// The stage or image that the step copies files from, if it is not the recipe's directory, and their path there.
    fn copies_from(&self) -> Option<(&ImageOrigin, &LayerPath)> {
        None
    }

    /// The directory that stands for the layer in a lock, if [`LayerKind::work`] finds the content only in a build.
    fn lock_directory(&self) -> Option<&LayerPath> {
        None
    }

    /// Whether the step runs a process.
    fn runs(&self) -> bool {
        false
    }
}

/// The inputs of layers that only need files.
pub(crate) struct LayerContext<'a> {
    /// The recipe's directory.
    pub(crate) directory: &'a Path,
    /// Whether the layer is the lowest of an image without a base.
    pub(crate) is_lowest: bool,
    /// The stage or image of [`LayerKind::copies_from`].
    pub(crate) source: Option<&'a SourceImage>,
    /// The time of new files.
    pub(crate) epoch: Epoch,
    /// A directory for temporary files.
    pub(crate) scratch: &'a Path,
    /// Prints warnings.
    pub(crate) reporter: &'a dyn Reporter,
}

/// A `[[layer]]` of the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The kind of the step.
    pub kind: StepKind,
    /// The configuration that holds for it.
    pub config: StepConfig,
    /// Its line in the recipe, counted from 1.
    pub line: usize,
    /// Its description in one line, for people and for the image's history; without credentials.
    pub description: String,
    /// Whether to compile the installed Python packages to bytecode, in another layer.
    pub bytecode: bool,
}

impl Step {
    /// Whether the build of the step runs a process.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.bytecode || self.kind.as_kind().runs()
    }
}

/// Reads a kind.
type ReadKind = fn(&Value<'_>, &Table<'_>, &StageNames) -> Result<(StepKind, String), PlanError>;

/// The form of a kind in a recipe, see [`RecipeForm`].
struct Form {
    key: &'static str,
    options: &'static [&'static str],
    inner: &'static [&'static str],
    read: ReadKind,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident($kind:ty),)*) => {
        /// The kinds of steps.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum StepKind {
            $($(#[$doc])* $name($kind),)*
        }

        impl StepKind {
            pub(crate) fn as_kind(&self) -> &dyn LayerKind {
                match self {
                    $(Self::$name(kind) => kind,)*
                }
            }
        }

        const FORMS: &[Form] = &[
            $(Form {
                key: <$kind>::KEY,
                options: <$kind>::OPTIONS,
                inner: <$kind>::INNER,
                read: |value, layer, stages| {
                    <$kind>::read(value, layer, stages).map(|(kind, text)| (StepKind::$name(kind), text))
                },
            },)*
        ];
    };
}

kinds! {
    /// Creates directories.
    Directories(Directories),
    /// Copies a file or the content of a directory.
    Copy(Copy),
    /// Adds the content of a tar archive.
    Archive(TarArchive),
    /// Installs Python packages.
    Pip(Pip),
    /// Runs a command in the sandbox. Its changes become the layer.
    Run(Run),
}

/// A kind that is reserved.
const RESERVED: &str = "apt";

/// The keys of `[[layer]]`.
static KEYS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let mut keys: Vec<_> = FORMS.iter().map(|form| form.key).collect();
    keys.insert(keys.len() - 1, RESERVED);
    for option in FORMS.iter().flat_map(|form| form.options) {
        if !keys.contains(option) {
            keys.push(option);
        }
    }
    keys
});

/// The names of the tables below `[[layer]]`, and their keys, for hints.
static TABLES: LazyLock<Vec<(String, &[&str])>> = LazyLock::new(|| {
    let own = ("[[layer]]".to_owned(), KEYS.as_slice());
    let inner = FORMS.iter().filter(|form| !form.inner.is_empty()).map(|form| (format!("`{}`", form.key), form.inner));
    [own].into_iter().chain(inner).chain([("`mounts`".to_owned(), mounts::KEYS)]).collect()
});

/// The tables of a layer and their keys, for hints.
pub(crate) fn tables() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    TABLES.iter().map(|(name, keys)| (name.as_str(), *keys))
}

/// Reads the steps of a stage, in order. `config` holds for all of them, and `stages` are the earlier ones.
pub(crate) fn steps(value: &Value<'_>, config: &StepConfig, stages: &StageNames) -> Result<Vec<Step>, PlanError> {
    if !matches!(value.raw(), DeValue::Array(_)) {
        return Err(value.unexpected("an array of tables", Some("write [[layer]] with two brackets".into())));
    }
    value.items()?.iter().map(|layer| step(&layer.table("[[layer]]")?.only(&KEYS)?, config, stages)).collect()
}

fn step(layer: &Table<'_>, config: &StepConfig, stages: &StageNames) -> Result<Step, PlanError> {
    let entries = layer.entries();
    let kind_of = |key: &str| FORMS.iter().map(|form| form.key).chain([RESERVED]).find(|kind| *kind == key);
    let mut kinds = entries.iter().filter_map(|(key, value)| Some((kind_of(key)?, value)));
    let (kind, value) = kinds.next().ok_or_else(|| layer.fault(TableFault::NoKind { kinds: names() }))?;
    if let Some((second, value)) = kinds.next() {
        return Err(value.fault(TableFault::TwoKinds(kind, second)));
    }
    let Some(form) = FORMS.iter().find(|form| form.key == kind) else {
        return Err(value.fault(TableFault::Unsupported("a layer of kind `apt`")));
    };
    for (key, entry) in &entries {
        if *key != kind && !form.options.contains(key) {
            let hint = form.inner.contains(key).then(|| format!("write it inside: {kind} = {{ …, {key} = … }}"));
            return Err(entry.fault(TableFault::Stray { key: (*key).to_owned(), kind, hint }));
        }
    }
    let bytecode = layer.get("bytecode").map_or(Ok(false), |value| boolean(&value))?;
    let (kind, description) = (form.read)(value, layer, stages)?;
    Ok(Step { kind, config: config.of_layer(layer)?, line: value.line(), description, bytecode })
}

/// The names of the kinds, for messages.
fn names() -> String {
    FORMS.iter().map(|form| format!("`{}`", form.key)).collect::<Vec<_>>().join(", ")
}
