//! The values of a recipe.

use std::fmt;
use std::path::{Path, PathBuf};

use ociforge_layers::LayerPath;
use ociforge_manifests::lint::LintCode;
use ociforge_manifests::runtime::RuntimeSettings;
use ociforge_manifests::{ConfigEdit, Digest, ImageName, Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::layer::Step;

/// A validated recipe. Whether its files and images exist is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The recipe's directory. The relative paths of the plan start here.
    pub directory: PathBuf,
    /// Name of the image, if the recipe has one.
    pub name: Option<Reference>,
    /// The base of the image.
    pub base: Base,
    /// The platforms, in the recipe's order; not empty, without duplicates.
    pub platforms: Vec<Platform>,
    /// The changes of the image config.
    pub config: ConfigEdit,
    /// The base's Python, if the recipe states it.
    pub python: Option<StatedPython>,
    /// The steps that make the layers, lowest first.
    pub steps: Vec<Step>,
    /// Defaults of `spec`, `bundle` and `run`.
    pub runtime: RuntimeSettings,
    /// The warnings about the image to silence.
    pub allow: Vec<LintCode>,
    /// The maximum number of layers. Small copies share layers if the image would have more.
    pub max_layers: Option<usize>,
    /// Digest of the values that the lock depends on: base, platforms, Python and packages, but not the config. It does
    /// not cover the content of the files of [`Plan::requirements`] and [`Plan::projects`].
    pub inputs: Digest,
}

impl Plan {
    /// Resolves a path of the plan against the recipe's directory.
    #[must_use]
    pub fn locate(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }

    /// The base image, with its path, if any, resolved by [`Plan::locate`]; `None` for `scratch`.
    #[must_use]
    pub fn base_image(&self) -> Option<ImageName> {
        match &self.base {
            Base::Scratch => None,
            Base::Image(name) => Some(name.with_path(|path| self.locate(path))),
        }
    }

    /// The requirements files of packages with their steps, in order, with paths as in the recipe.
    pub fn requirements(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps.iter().filter_map(|step| Some((step, step.kind.as_kind().requirements_file()?)))
    }

    /// The directories of projects with their steps, in order, with paths as in the recipe. The requirements of a
    /// project are in its [`PROJECT_FILES`](crate::layer::PROJECT_FILES).
    pub fn projects(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps.iter().filter_map(|step| Some((step, step.kind.as_kind().project()?)))
    }

    /// The ids of the secrets that steps mount with these steps, in order; an id may occur several times.
    pub fn secrets(&self) -> impl Iterator<Item = (&Step, &str)> {
        self.steps.iter().flat_map(|step| step.kind.as_kind().secrets().into_iter().map(move |id| (step, id)))
    }

    /// Whether the build runs a process: a command, the build of a project, or the compilation of bytecode.
    #[must_use]
    pub fn needs_sandbox(&self) -> bool {
        self.steps.iter().any(Step::runs)
    }
}

/// The base of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// No base.
    Scratch,
    /// An image. Its path, if any, is relative to [`Plan::directory`].
    Image(ImageName),
}

/// A Python that the recipe states, so that the base is not searched for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedPython {
    /// The version.
    pub version: PythonVersion,
    /// The directory of its packages.
    pub site_packages: LayerPath,
    /// The interpreter: an absolute path in the image.
    pub executable: String,
    /// The base's C library, if the recipe states it.
    pub libc: Option<Libc>,
}

/// A C library and its version. They determine which wheels run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Libc {
    /// glibc, major and minor version.
    Glibc(u32, u32),
    /// musl, major and minor version.
    Musl(u32, u32),
}

impl std::str::FromStr for Libc {
    type Err = ();

    /// Parses `glibc 2.39` or `musl 1.2`, and ignores a patch version.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, version) = text.split_once(' ').ok_or(())?;
        let numbers = version.split('.').map(|number| match number.bytes().all(|byte| byte.is_ascii_digit()) {
            true => number.parse().map_err(drop),
            false => Err(()),
        });
        match (name, &*numbers.collect::<Result<Vec<u32>, ()>>()?) {
            ("glibc", [2, minor] | [2, minor, _]) => Ok(Self::Glibc(2, *minor)),
            ("musl", [1, minor] | [1, minor, _]) => Ok(Self::Musl(1, *minor)),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc(major, minor) => write!(f, "glibc {major}.{minor}"),
            Self::Musl(major, minor) => write!(f, "musl {major}.{minor}"),
        }
    }
}

/// A version of Python: `3.11` or `3.11.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// The major version, 3.
    pub major: u32,
    /// The minor version, such as 11.
    pub minor: u32,
    /// The patch version, such as 4.
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
