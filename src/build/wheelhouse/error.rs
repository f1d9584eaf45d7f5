//! Why no wheel comes of a source.

use std::io;
use std::path::PathBuf;

use ociforge_layers::materialize::MaterializeError;
use ociforge_layers::source::directory::DirectoryError;
use ociforge_layers::source::ignore::PatternError;
use ociforge_layers::source::tar::TarError;
use ociforge_layers::source::wheel::WheelError;
use ociforge_layers::source::zip::ZipError;
use ociforge_layers::{PathError, TreeError};

use crate::error::Explain;
use crate::lock::{FetchError, LockError, WorkshopError};

/// Why no wheel, or no bytecode, comes of a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A tar archive that can't be taken.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A zip archive that can't be taken.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// A project that can't be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A project's `.dockerignore`.
    #[error("cannot use the patterns of .dockerignore")]
    Pattern(#[from] PatternError),
    /// An archive without the one directory that it should have.
    #[error("the archive has no directory with a pyproject.toml, setup.py or PKG-INFO in it, or several")]
    NoTop,
    /// A member that no source has.
    #[error("`{path}` in the archive {why}")]
    Member {
        /// Its path.
        path: String,
        /// What it is or does.
        why: &'static str,
    },
    /// `pyproject.toml` can't be understood.
    #[error("its pyproject.toml is not as it should be: {0}")]
    Pyproject(String),
    /// The metadata names another package.
    #[error("it says that it is {found}, and should be {expected}")]
    OtherPackage {
        /// What it says.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// Metadata without a name or a version.
    #[error("its metadata has no usable name and version")]
    NoName,
    /// It wants another Python.
    #[error("it requires Python {requires}, and the base has {python}")]
    Python {
        /// A version specifier.
        requires: String,
        /// The base's.
        python: String,
    },
    /// A requirement of the build that would have to be built itself.
    #[error("its build needs {name} {version}, which has no wheel either")]
    Nested {
        /// The requirement.
        name: String,
        /// Its version.
        version: String,
    },
    /// The job failed.
    #[error("the {doing} failed")]
    Run {
        /// What was done.
        doing: &'static str,
        /// How it ended.
        source: WorkshopError,
    },
    /// The job has not left what it should.
    #[error("what the build left can't be read: {0}")]
    Result(String),
    /// The backend's wheels are not one.
    #[error("the build backend has to make one wheel and name it; it named `{said}` and made {}", shown(found))]
    Wheels {
        /// What it named.
        said: String,
        /// What was there.
        found: Vec<String>,
    },
    /// A wheel that can't be used.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// What the build needs can't be found.
    #[error("cannot find what its build needs")]
    Lock(#[from] LockError),
    /// What the build needs can't be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file could not be made.
    #[error(transparent)]
    Write(#[from] MaterializeError),
    /// A file could not be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path that no layer can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries that contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

fn shown(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

/// What it means when a line of a failed build has all of these words.
const SYMPTOMS: [(&[&str], &str); 16] = [
    (&["Python.h", "No such file"], NO_HEADERS),
    (&["pyconfig.h", "No such file"], NO_HEADERS),
    (&["fatal error: ", ".h: No such file"], NO_LIBRARY),
    (&["No such file", "cc'"], NO_COMPILER),
    (&["No such file", "++'"], NO_COMPILER),
    (&["No such file", "clang'"], NO_COMPILER),
    (&["unable to execute"], NO_COMPILER),
    (&["Unknown compiler(s)"], NO_COMPILER),
    (&["No CMAKE_C"], NO_COMPILER),
    (&["can't find Rust compiler"], NO_COMPILER),
    (&["No such file", "cargo'"], NO_COMPILER),
    (&["name resolution"], NO_NETWORK),
    (&["Network is unreachable"], NO_NETWORK),
    (&["Name or service not known"], NO_NETWORK),
    (&["No module named"], UNNAMED),
    (&["cannot import the build backend"], UNNAMED),
];
const NO_HEADERS: &str =
    "the base has no C headers of its Python: install them there (Debian: python3-dev), or choose a base that has them";
const NO_LIBRARY: &str =
    "the base has no headers of a C library that it needs: install them there (Debian: a package that ends in -dev)";
const NO_COMPILER: &str =
    "the base has no compiler for it: install one there (Debian: gcc or g++), or choose a base that has one";
const NO_NETWORK: &str = "builds have no network: what they need has to be among the build requirements or in the base";
const UNNAMED: &str = "its build needs a package that it doesn't name: build a wheel elsewhere (`pip wheel`) and give \
                       that: pip = { wheels = \"dist/*.whl\" }";

impl Explain for SourceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Run { source, .. } => {
                let lines = source.last_lines();
                let told = |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
                SYMPTOMS.iter().find(|(words, _)| told(words)).map(|(_, hint)| (*hint).into())
            }
            Self::Python { .. } => Some("choose another version of it, or a base with another Python".into()),
            Self::Nested { .. } => Some(
                "build a wheel of it elsewhere (`pip wheel`) and give that: pip = { wheels = \"dist/*.whl\" }".into(),
            ),
            Self::Lock(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Wheel(error) => error.hint().map(Into::into),
            Self::Wheels { .. } | Self::OtherPackage { .. } | Self::NoTop | Self::Member { .. } => Some(
                "the source breaks the rules (PEP 517, PEP 625): ask those who made it, or choose another version"
                    .into(),
            ),
            Self::File { source, .. } | Self::Write(MaterializeError { source, .. })
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                Some("free some space (`ociforge cache prune`), or choose another place with --store".into())
            }
            _ => None,
        }
    }
}
