//! Why no wheel comes of a source.

use std::fmt;
use std::io;
use std::path::PathBuf;

use ociforge_layers::materialize::MaterializeError;
use ociforge_layers::source::directory::DirectoryError;
use ociforge_layers::source::ignore::PatternError;
use ociforge_layers::source::tar::TarError;
use ociforge_layers::source::wheel::WheelError;
use ociforge_layers::source::zip::ZipError;
use ociforge_layers::{PathError, TreeError};

use crate::build::correction::CorrectionError;
use crate::error::Explain;
use crate::lock::{FetchError, IsolatedError, LockError};

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
    #[error("{doing} failed")]
    Run {
        /// What was done.
        doing: Doing,
        /// How it ended.
        source: IsolatedError,
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

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// The source says what it is and needs, on the base alone.
    Asking,
    /// A wheel is built, on the base and the layers so far.
    Building,
    /// Modules become bytecode.
    Compiling,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asking => "asking it what it needs",
            Self::Building => "its build",
            Self::Compiling => "the compilation",
        })
    }
}

impl From<CorrectionError> for SourceError {
    fn from(error: CorrectionError) -> Self {
        match error {
            CorrectionError::Wheel(error) => Self::Wheel(error),
            CorrectionError::Write { path, source } => Self::File { path, source },
        }
    }
}

fn shown(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

/// What it means when a line of a failed build has all of these words.
const SYMPTOMS: [(&[&str], Lack); 16] = [
    (&["Python.h", "No such file"], NO_HEADERS),
    (&["pyconfig.h", "No such file"], NO_HEADERS),
    (&["fatal error: ", ".h: No such file"], NO_LIBRARY),
    (&["No such file", "cc'"], NO_COMPILER),
    (&["No such file", "++'"], NO_COMPILER),
    (&["No such file", "clang'"], NO_COMPILER),
    (&["unable to execute"], NO_COMPILER),
    (&["Unknown compiler(s)"], NO_COMPILER),
    (&["No CMAKE_C"], NO_COMPILER),
    (&["can't find Rust compiler"], NO_RUST),
    (&["No such file", "cargo'"], NO_RUST),
    (&["name resolution"], NO_NETWORK),
    (&["Network is unreachable"], NO_NETWORK),
    (&["Name or service not known"], NO_NETWORK),
    (&["No module named"], UNNAMED),
    (&["cannot import the build backend"], UNNAMED),
];

/// What a failed build lacks.
#[derive(Clone, Copy)]
enum Lack {
    /// Something of the system's: what, and Debian's packages that bring it.
    System(&'static str, &'static str),
    /// Something else: all of the hint.
    Other(&'static str),
}

const NO_HEADERS: Lack = Lack::System("the C headers of Python", "python3-dev");
const NO_LIBRARY: Lack = Lack::System("the headers of a C library", "LIBRARY-dev");
const NO_COMPILER: Lack = Lack::System("a compiler", "g++ python3-dev");
const NO_RUST: Lack = Lack::System("a Rust compiler", "cargo");
const NO_NETWORK: Lack =
    Lack::Other("builds have no network: what they need has to be among the build requirements or in the base");
const UNNAMED: Lack = Lack::Other(
    "its build needs a package that it doesn't name: build a wheel elsewhere (`pip wheel`) and give that: pip = { wheels \
     = \"dist/*.whl\" }",
);

impl Lack {
    /// What to do about it.
    fn hint(self, doing: Doing) -> String {
        match (self, doing) {
            (Self::Other(hint), _) => hint.to_owned(),
            (Self::System(what, packages), Doing::Asking) => format!(
                "it needs {what} to say what it needs: choose a base that has it (Debian: {packages}); layers of the \
                 recipe don't count here"
            ),
            (Self::System(what, packages), _) => format!(
                "it needs {what}: bring it with a layer before this one, such as run = \"apt-get update && apt-get \
                 install -y {packages}\" with network = \"host\", or choose a base that has it"
            ),
        }
    }
}

impl Explain for SourceError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Run { source: IsolatedError::Unavailable(error), .. } => error.hint(),
            Self::Run { doing, source } => {
                let lines = source.last_lines();
                let told = |words: &[&str]| lines.iter().any(|line| words.iter().all(|word| line.contains(word)));
                SYMPTOMS.iter().find(|(words, _)| told(words)).map(|(_, lack)| lack.hint(*doing))
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
