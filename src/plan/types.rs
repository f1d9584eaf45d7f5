//! What a recipe or a Dockerfile says, as values.

use std::fmt;
use std::path::{Path, PathBuf};

use ociforge_layers::LayerPath;
use ociforge_layers::source::directory::Destination;
use ociforge_manifests::lint::Code;
use ociforge_manifests::runtime::Settings;
use ociforge_manifests::{ConfigEdit, Digest, ImageName, Platform, Reference};

/// What is to be built. Nothing in it was looked for on disk or in the network yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where the relative paths of the plan start: the recipe's directory.
    pub directory: PathBuf,
    /// Name of the image, if the recipe has one.
    pub name: Option<Reference>,
    /// What the image is built on.
    pub base: Base,
    /// What it is built for, in the recipe's order; never empty, none twice.
    pub platforms: Vec<Platform>,
    /// What changes in the image config.
    pub config: ConfigEdit,
    /// The base's Python, where the recipe states it.
    pub python: Option<StatedPython>,
    /// What makes the layers, lowest first.
    pub steps: Vec<Step>,
    /// Defaults of `spec`, `bundle` and `run`.
    pub runtime: Settings,
    /// The warnings about the image that are not wanted.
    pub allow: Vec<Code>,
    /// Digest of all of the recipe that the lock depends on: base, platforms, Python and packages, but not the config.
    /// The content of the files that [`Plan::requirements`] names is not in it.
    pub inputs: Digest,
}

impl Plan {
    /// A path of the plan, from where the program runs.
    #[must_use]
    pub fn locate(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// The base image with its path, where it has one, as [`Plan::locate`] gives it; `None` for `scratch`.
    #[must_use]
    pub fn base_image(&self) -> Option<ImageName> {
        match &self.base {
            Base::Scratch => None,
            Base::Image(ImageName::Layout { directory, tag }) => {
                Some(ImageName::Layout { directory: self.locate(directory), tag: tag.clone() })
            }
            Base::Image(ImageName::Archive { file, tag }) => {
                Some(ImageName::Archive { file: self.locate(file), tag: tag.clone() })
            }
            Base::Image(name) => Some(name.clone()),
        }
    }

    /// The requirements files that packages come from, as they are written, in order, with the steps that name them.
    pub fn requirements(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Pip(Pip::File(file)) => Some((step, file.as_path())),
            _ => None,
        })
    }
}

/// What an image is built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// Another image; its paths are relative to [`Plan::directory`].
    Image(ImageName),
}

/// A Python that need not be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedPython {
    /// Its version.
    pub version: PythonVersion,
    /// Where its packages are.
    pub site_packages: LayerPath,
    /// The interpreter: an absolute path in the image.
    pub executable: String,
}

/// `3.11` or `3.11.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// 3
    pub major: u32,
    /// 11
    pub minor: u32,
    /// 4
    pub patch: Option<u32>,
}

impl std::str::FromStr for PythonVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<u32>().map_err(drop),
            false => Err(()),
        };
        let numbers = text.split('.').map(number).collect::<Result<Vec<u32>, ()>>()?;
        match *numbers.as_slice() {
            [major, minor] => Ok(Self { major, minor, patch: None }),
            [major, minor, patch] => Ok(Self { major, minor, patch: Some(patch) }),
            _ => Err(()),
        }
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

/// What makes one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub kind: StepKind,
    /// Where the recipe says so, counted from 1.
    pub line: usize,
    /// The same in one line for people and for the image's history; without credentials.
    pub description: String,
}

/// The kinds of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// Makes directories.
    Directories {
        /// Which; none of them is the root.
        paths: Vec<LayerPath>,
        /// Their mode, 0755 where the recipe says nothing.
        mode: u32,
        /// Their owner; root where there is none.
        owner: Option<Owner>,
    },
    /// Copies a file or what is in a directory.
    Copy {
        /// What is copied, relative to [`Plan::directory`].
        from: PathBuf,
        /// Where to.
        to: Destination,
        /// What is left out, besides what `.dockerignore` leaves out: patterns relative to `from`.
        exclude: Vec<String>,
        /// The owner; root where there is none.
        owner: Option<Owner>,
        /// The files' mode; 0644 or 0755 by whether they can be executed where there is none.
        mode: Option<u32>,
    },
    /// Takes in a tar archive.
    Tar {
        /// The archive, relative to [`Plan::directory`].
        file: PathBuf,
    },
    /// Installs Python packages.
    Pip(Pip),
}

/// Where Python packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pip {
    /// Requirements (PEP 508), to be resolved.
    Requirements(Vec<String>),
    /// A requirements file, to be resolved, relative to [`Plan::directory`].
    File(PathBuf),
    /// A `pylock.toml` (PEP 751), relative to [`Plan::directory`].
    Lock(PathBuf),
    /// Wheels on disk: a pattern, relative to [`Plan::directory`].
    Wheels(String),
}

/// A numeric owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
