//! What a recipe or a Dockerfile says, as values.

use std::fmt;
use std::path::{Path, PathBuf};

use ociforge_layers::LayerPath;
use ociforge_layers::source::directory::Destination;
use ociforge_manifests::lint::Code;
use ociforge_manifests::runtime::{Network, Settings, Size};
use ociforge_manifests::{ConfigEdit, Digest, ImageName, Platform, Reference};
use serde::{Deserialize, Serialize};

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
    /// How many layers the image may have; small copies share layers where it would have more.
    pub max_layers: Option<usize>,
    /// Digest of all of the recipe that the lock depends on: base, platforms, Python and packages, but not the config.
    /// The content of the files that [`Plan::requirements`] and [`Plan::projects`] name is not in it.
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
            Base::Image(name) => Some(name.with_path(|path| self.locate(path))),
        }
    }

    /// The requirements files that packages come from, as they are written, in order, with the steps that name them.
    pub fn requirements(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Pip(Pip::File(file)) => Some((step, file.as_path())),
            _ => None,
        })
    }

    /// The directories of the projects that are built, as they are written, in order, with the steps that name them.
    /// What a project requires is in its [`PROJECT_FILES`].
    pub fn projects(&self) -> impl Iterator<Item = (&Step, &Path)> {
        self.steps.iter().filter_map(|step| match &step.kind {
            StepKind::Pip(Pip::Project { directory, .. }) => Some((step, directory.as_path())),
            _ => None,
        })
    }

    /// The ids of the secrets that steps see, in order, with the steps; an id may come several times.
    pub fn secrets(&self) -> impl Iterator<Item = (&Step, &str)> {
        self.steps.iter().flat_map(|step| {
            let mounts = if let StepKind::Run(run) = &step.kind { run.mounts.as_slice() } else { &[] };
            mounts.iter().filter_map(move |mount| match &mount.kind {
                MountKind::Secret { id, .. } => Some((step, id.as_str())),
                _ => None,
            })
        })
    }

    /// Whether something must be run to build this: a command, the build of a project, a compilation of bytecode.
    #[must_use]
    pub fn needs_sandbox(&self) -> bool {
        let needs =
            |step: &Step| step.bytecode || matches!(step.kind, StepKind::Run(_) | StepKind::Pip(Pip::Project { .. }));
        self.steps.iter().any(needs)
    }
}

/// The files of a project that may say what it requires (PEP 518, PEP 621, and setuptools' own); some of them are
/// missing in most projects.
pub const PROJECT_FILES: [&str; 3] = ["pyproject.toml", "setup.py", "setup.cfg"];

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
    /// The base's C library, where that is stated, too.
    pub libc: Option<Libc>,
}

/// A C library and its version, which decide the wheels that run on it.
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

    /// Reads `glibc 2.39` or `musl 1.2`; what follows the minor version makes no difference.
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
    /// Whether the Python packages that it installs are compiled ahead, in a layer of their own.
    pub bytecode: bool,
}

/// The kinds of steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// Makes directories.
    Directories {
        /// Which; none of them is the root.
        paths: Vec<LayerPath>,
        /// Their mode; where there is none, new ones have 0755.
        mode: Option<u32>,
        /// Their owner; where there is none, new ones belong to root.
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
    /// Runs a command in the sandbox; what it changes is the layer.
    Run(Box<Run>),
}

/// A command, and what it may see. Everything in it is part of the layer's cache key but the values of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The program and its arguments; never empty. A recipe's string is `/bin/sh -c` of it.
    pub command: Vec<String>,
    /// Variables besides the image's, in order; these win.
    pub env: Vec<(String, String)>,
    /// Where it runs, absolute, instead of the image's working directory.
    pub workdir: Option<String>,
    /// `user[:group]`, names or numbers, instead of the image's.
    pub user: Option<String>,
    /// Whose network.
    pub network: Network,
    /// What is mounted, in order; no two at the same place.
    pub mounts: Vec<StepMount>,
}

/// What a step sees besides the image, none of which is in the layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepMount {
    /// Where, absolute and without `.` and `..`.
    pub to: String,
    /// What.
    pub kind: MountKind,
}

/// The kinds of what a step sees besides the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A file or directory of the recipe's.
    Bind {
        /// Relative to [`Plan::directory`].
        from: PathBuf,
        /// Whether the step can write there; what it writes is lost.
        writable: bool,
    },
    /// A directory that is kept from one build to the next.
    Cache {
        /// Mounts of the same id, in whatever recipe, are the same directory.
        id: String,
        /// Whether builds wait for each other to use it.
        locked: bool,
    },
    /// A directory in memory.
    Tmpfs {
        /// At most so many bytes; half of the memory where there is none.
        size: Option<Size>,
    },
    /// A file with a secret of the command line.
    Secret {
        /// Its name there.
        id: String,
        /// The file's mode.
        mode: u32,
        /// The file's owner; root where there is none.
        owner: Option<Owner>,
    },
}

/// Where Python packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pip {
    /// Requirements (PEP 508), to be resolved.
    Requirements(Vec<String>),
    /// A requirements file, to be resolved, relative to [`Plan::directory`].
    File(PathBuf),
    /// A `pylock.toml` (PEP 751), relative to [`Plan::directory`], and what of it.
    Lock(PathBuf, Selection),
    /// Wheels on disk: a pattern, relative to [`Plan::directory`].
    Wheels(String),
    /// A project (PEP 517), to be built, and what it requires, to be resolved.
    Project {
        /// The directory with its `pyproject.toml` or `setup.py`, relative to [`Plan::directory`].
        directory: PathBuf,
        /// Its extras that are wanted, normalized, sorted.
        extras: Vec<String>,
    },
}

/// What is wanted of the optional parts of a `pylock.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Its extras, normalised, sorted.
    pub extras: Vec<String>,
    /// Its dependency groups, in the same form; those that it has for its default where none are said.
    pub groups: Option<Vec<String>>,
}

/// A numeric owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
