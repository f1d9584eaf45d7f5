//! Errors of the resolution of packages.

use std::io;
use std::path::{Path, PathBuf};

use ociforge_layers::source::wheel::FileName;

use super::resolve::tags::required_libc;
use crate::error::Explain;

/// Packages cannot be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// uv is not installed.
    #[error("cannot resolve Python packages: uv is not installed")]
    NoUv,
    /// uv cannot be run.
    #[error("cannot run uv")]
    RunUv(#[source] io::Error),
    /// uv found no solution, or failed otherwise.
    #[error("cannot resolve the Python packages for {target}")]
    Uv {
        /// The target.
        target: String,
        /// The message of uv.
        source: ProgramMessage,
        /// The hint.
        hint: Option<String>,
    },
    /// uv does not support the target.
    #[error("uv cannot resolve packages for {target}")]
    Target {
        /// The target.
        target: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that is not a valid lock (PEP 751).
    #[error("{}:{line}: {message}", path.display())]
    Pylock {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The fault.
        message: String,
        /// The hint.
        hint: Option<String>,
    },
    /// A selected extra or group does not exist in a lock (PEP 751).
    #[error("{} has no {kind} `{name}`", path.display())]
    Selection {
        /// The file.
        path: PathBuf,
        /// `extra` or `group`.
        kind: &'static str,
        /// The name of the extra or group.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// The lock is for other targets.
    #[error("{} is not for {target}", path.display())]
    OtherTarget {
        /// The file.
        path: PathBuf,
        /// The target.
        target: String,
    },
    /// A package cannot be installed.
    #[error("cannot install {name}")]
    Package {
        /// The package.
        name: String,
        /// The cause.
        #[source]
        problem: PackageProblem,
    },
}

/// The message of another program.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProgramMessage(pub(super) String);

/// Why a package cannot be installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageProblem {
    /// It must be built, and `ociforge.lock` does not pin its source.
    #[error("the package has no wheel, and ociforge.lock has no build requirements for it")]
    Unpinned,
    /// None of its wheels runs on the target.
    #[error("no wheel runs on {target}: {}", files.iter().map(|file| described(file)).collect::<Vec<_>>().join(", "))]
    WrongTarget {
        /// The target.
        target: String,
        /// The file names of the wheels.
        files: Vec<String>,
    },
    /// It is a directory, a repository or an archive, not a wheel.
    #[error("the package is a {0}; only wheels are supported")]
    NotAWheel(&'static str),
    /// A wheel has no SHA-256.
    #[error("{0} has no SHA-256")]
    NoHash(String),
    /// A wheel without a usable URL or path.
    #[error("{0} has no usable URL or path")]
    NoLocation(String),
    /// A file name that is not a wheel's.
    #[error("`{0}` is not a wheel's file name")]
    FileName(String),
    /// An invalid marker or version.
    #[error("cannot parse `{text}`: {message}")]
    Unreadable {
        /// The text.
        text: String,
        /// The cause.
        message: String,
    },
    /// The requirements have hashes, and none matches the file.
    #[error("the requirements have no hash that matches {0}")]
    WrongHash(String),
    /// The requirements have hashes, but none for this package.
    #[error("the requirements have hashes for other packages, but none for this package")]
    Unhashed,
    /// It does not run with the target's Python.
    #[error("the package needs Python {needs}, and the base has {python}")]
    Python {
        /// A version specifier.
        needs: String,
        /// The target's Python.
        python: String,
    },
    /// It occurs twice.
    #[error("the package occurs twice")]
    Twice,
}

/// A wheel's file name, with the C library that its tags require.
fn described(file: &str) -> String {
    let required = FileName::parse(file).ok().and_then(|name| required_libc(&name));
    required.map_or_else(|| file.to_owned(), |libc| format!("{file} needs {libc}"))
}

impl ResolveError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_path_buf(), source }
    }
}

impl Explain for ResolveError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoUv => {
                Some("install uv (`pip install uv`), or commit an ociforge.lock from a machine that has uv".into())
            }
            Self::Uv { hint, .. } => hint.clone(),
            Self::Target { .. } => Some("use a lock instead: `pip = { lock = \"pylock.toml\" }`".into()),
            Self::Pylock { hint, .. } => hint.clone(),
            Self::Selection { kind, known, .. } if known.is_empty() => Some(format!("the lock has no {kind}s")),
            Self::Selection { kind, known, .. } => Some(format!("its {kind}s are {}", known.join(", "))),
            Self::OtherTarget { .. } => Some("create the lock again for this Python and platform".into()),
            Self::Package { problem, .. } => match problem {
                PackageProblem::Unpinned => Some("run `ociforge lock`".into()),
                PackageProblem::NotAWheel("directory") => Some(
                    "name the project: pip = { project = \"DIR\" }; or export all packages with `uv export --format \
                        pylock.toml -o pylock.toml` and write pip = { lock = \"pylock.toml\" }"
                        .into(),
                ),
                PackageProblem::NotAWheel("repository") => Some(
                    "build a wheel (`pip wheel 'NAME @ git+URL@COMMIT'`) and use it: pip = { wheels = \"dist/*.whl\" }"
                        .into(),
                ),
                PackageProblem::NotAWheel(_) => Some(
                    "build a wheel (`pip wheel`) and use it, `pip = { wheels = \"dist/*.whl\" }`, or, for a project \
                        of your own, `pip = { project = \"DIR\" }`"
                        .into(),
                ),
                PackageProblem::WrongTarget { .. } => {
                    Some("choose another version of the package, or a base with another Python or C library".into())
                }
                PackageProblem::Python { .. } => {
                    Some("choose another version of the package, or a base with another Python".into())
                }
                PackageProblem::NoHash(_) => Some("create the lock again with hashes".into()),
                PackageProblem::Twice => Some("remove one of the two, or add markers that exclude each other".into()),
                _ => None,
            },
            _ => None,
        }
    }

    fn is_usage(&self) -> bool {
        matches!(self, Self::Pylock { .. } | Self::Selection { .. })
    }
}
