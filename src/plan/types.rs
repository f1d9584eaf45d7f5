//! The values of a recipe.

use std::fmt;
use std::path::{Path, PathBuf};

use ociforge_layers::LayerPath;
use ociforge_layers::source::directory::CopyDestination;
use ociforge_manifests::lint::LintCode;
use ociforge_manifests::runtime::{Network, RuntimeSettings, Size};
use ociforge_manifests::{ConfigEdit, Digest, ImageName, Platform, Reference};
use serde::{Deserialize, Serialize};

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
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Pip(Pip::File(file)) => Some((step, file.as_path())),
            _ => None,
        })
    }

    /// The directories of projects with their steps, in order, with paths as in the recipe. The requirements of a
    /// project are in its [`PROJECT_FILES`].
    pub fn projects(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Pip(Pip::Project { directory, .. }) => Some((step, directory.as_path())),
            _ => None,
        })
    }

    /// The ids of the secrets that steps mount with these steps, in order; an id may occur several times.
    pub fn secrets(&self) -> impl Iterator<Item = (&Step, &str)> {
        self.steps.iter().flat_map(|step| {
            let mounts = if let StepKind::Run(run) = &step.kind { run.mounts.as_slice() } else { &[] };
            mounts.iter().filter_map(move |mount| match &mount.kind {
                MountKind::Secret { id, .. } => Some((step, id.as_str())),
                _ => None,
            })
        })
    }

    /// Whether the build runs a process: a command, the build of a project, or the compilation of bytecode.
    #[must_use]
    pub fn needs_sandbox(&self) -> bool {
        let needs =
            |step: &Step| step.bytecode || matches!(step.kind, StepKind::Run(_) | StepKind::Pip(Pip::Project { .. }));
        self.steps.iter().any(needs)
    }
}

/// The files of a project that may declare its requirements (PEP 518, PEP 621, setuptools). Most projects lack some of
/// them.
pub const PROJECT_FILES: [&str; 3] = ["pyproject.toml", "setup.py", "setup.cfg"];

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

/// A `[[layer]]` of the recipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The kind of the step.
    pub kind: StepKind,
    /// Its line in the recipe, counted from 1.
    pub line: usize,
    /// Its description in one line, for people and for the image's history; without credentials.
    pub description: String,
    /// Whether to compile the installed Python packages to bytecode, in another layer.
    pub bytecode: bool,
}

/// The kinds of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// Creates directories.
    Directories {
        /// The directories; none of them is the root.
        paths: Vec<LayerPath>,
        /// Their mode; `None` gives new ones 0755.
        mode: Option<u32>,
        /// Their owner; `None` gives new ones to root.
        owner: Option<Owner>,
    },
    /// Copies a file or the content of a directory.
    Copy {
        /// The source, relative to [`Plan::directory`].
        from: PathBuf,
        /// The destination.
        to: CopyDestination,
        /// Patterns of excluded files, relative to `from`, in addition to those of `.dockerignore`.
        exclude: Vec<String>,
        /// The owner; `None` is root.
        owner: Option<Owner>,
        /// The mode of files; `None` is 0755 for executable files and 0644 for others.
        mode: Option<u32>,
    },
    /// Adds the content of a tar archive.
    Tar {
        /// The archive, relative to [`Plan::directory`].
        file: PathBuf,
    },
    /// Installs Python packages.
    Pip(Pip),
    /// Runs a command in the sandbox. Its changes become the layer.
    Run(Box<Run>),
}

/// A command and its environment. All fields are part of the layer's cache key, except the values of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The program and its arguments; not empty. A string in the recipe becomes `/bin/sh -c STRING`.
    pub command: Vec<String>,
    /// Variables, in order. They override the image's.
    pub env: Vec<(String, String)>,
    /// The absolute working directory; `None` is the image's.
    pub workdir: Option<String>,
    /// `user[:group]`, names or numbers; `None` is the base's.
    pub user: Option<String>,
    /// The network.
    pub network: Network,
    /// The mounts, in order, each with another mount point.
    pub mounts: Vec<StepMount>,
}

/// A mount of a step. The layer does not contain it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepMount {
    /// The mount point, absolute and without `.` and `..`.
    pub to: String,
    /// The kind of the mount.
    pub kind: MountKind,
}

/// The kinds of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the recipe's directory.
    Bind {
        /// The source, relative to [`Plan::directory`].
        from: PathBuf,
        /// Whether the step can write to it. The changes are discarded.
        writable: bool,
    },
    /// A directory that later builds see again.
    Cache {
        /// The id: mounts with the same id are the same directory, in all recipes.
        id: String,
        /// Whether only one build can use it at a time.
        locked: bool,
    },
    /// A directory in memory.
    Tmpfs {
        /// The maximum size; `None` is half of the memory.
        size: Option<Size>,
    },
    /// A file with a secret of `--secret`.
    Secret {
        /// The id in `--secret`.
        id: String,
        /// The mode of the file.
        mode: u32,
        /// The owner of the file; `None` is root.
        owner: Option<Owner>,
    },
}

/// The sources of Python packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pip {
    /// Requirements (PEP 508) to resolve.
    Requirements(Vec<String>),
    /// A requirements file to resolve, relative to [`Plan::directory`].
    File(PathBuf),
    /// A `pylock.toml` (PEP 751), relative to [`Plan::directory`], and the selected parts of it.
    Lock(PathBuf, Selection),
    /// A pattern of wheels on disk, relative to [`Plan::directory`].
    Wheels(String),
    /// A project (PEP 517) to build, with its requirements to resolve.
    Project {
        /// The directory with its `pyproject.toml` or `setup.py`, relative to [`Plan::directory`].
        directory: PathBuf,
        /// The selected extras, normalized, sorted.
        extras: Vec<String>,
    },
}

/// The selected optional parts of a `pylock.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The selected extras, normalized, sorted.
    pub extras: Vec<String>,
    /// The selected dependency groups, normalized, sorted; `None` is the default groups of the file.
    pub groups: Option<Vec<String>>,
}

/// A numeric owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}
