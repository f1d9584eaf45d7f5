//! The errors of building a wheel or bytecode.

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

use crate::error::{Explain, FULL_DISK, is_full_disk};
use crate::python::install::correction::CorrectionError;
use crate::python::{FetchError, IsolatedError, ResolveError};

/// A wheel or the bytecode of modules cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("cannot build {what}")]
pub struct WheelBuildError {
    /// The package or the modules.
    pub what: String,
    /// The cause.
    pub source: Box<SourceError>,
}

impl Explain for WheelBuildError {
    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

/// The error of building a wheel or bytecode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A tar archive that cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A zip archive that cannot be read.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// A project that cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// An invalid `.dockerignore`.
    #[error("cannot use the patterns of .dockerignore")]
    Pattern(#[from] PatternError),
    /// An archive without exactly one source directory.
    #[error("the archive must have exactly one directory with a pyproject.toml, setup.py or PKG-INFO")]
    NoTop,
    /// A member that is not allowed in a source.
    #[error("`{path}` in the archive {why}")]
    Member {
        /// The path of the member.
        path: String,
        /// The reason.
        why: &'static str,
    },
    /// `pyproject.toml` is invalid.
    #[error("its pyproject.toml is invalid: {0}")]
    Pyproject(String),
    /// The metadata names another package.
    #[error("its metadata names {found}; expected {expected}")]
    OtherPackage {
        /// The package in the metadata.
        found: String,
        /// The expected package.
        expected: String,
    },
    /// Metadata without a name or a version.
    #[error("its metadata has no usable name and version")]
    NoName,
    /// The package needs another Python.
    #[error("the package needs Python {requires}, and the base has {python}")]
    Python {
        /// Its version specifier.
        requires: String,
        /// The version of the base's Python.
        python: String,
    },
    /// A build requirement without a wheel.
    #[error("its build requires {name} {version}, which has no wheel")]
    Nested {
        /// The requirement.
        name: String,
        /// Its version.
        version: String,
    },
    /// The job failed.
    #[error("{doing} failed")]
    Run {
        /// The purpose of the job.
        doing: JobPurpose,
        /// The failure.
        source: IsolatedError,
    },
    /// The job's result is missing or invalid.
    #[error("the result of the build is invalid: {0}")]
    Result(String),
    /// The backend did not create exactly one wheel.
    #[error(
        "the build backend must create one wheel and return its name; it returned `{said}` and created {}",
        shown(found)
    )]
    Wheels {
        /// The name that it reported.
        said: String,
        /// The wheels in the output.
        found: Vec<String>,
    },
    /// A wheel that is not usable.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// The build requirements cannot be resolved.
    #[error("cannot resolve its build requirements")]
    Lock(#[from] ResolveError),
    /// A build requirement or an archive cannot be downloaded.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file of the source cannot be written.
    #[error(transparent)]
    Write(#[from] MaterializeError),
    /// A file cannot be read or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A path that is invalid in layers.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Entries of a tree that contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// The purpose of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobPurpose {
    /// To get the metadata and requirements of a source, on the base alone.
    Query,
    /// To build a wheel, on the base and the layers so far.
    Build,
    /// To compile modules to bytecode.
    Compile,
}

impl fmt::Display for JobPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Query => "the query of its build requirements",
            Self::Build => "its build",
            Self::Compile => "the compilation",
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

/// Words that occur together in a line of a failed build, and what is missing then.
const SYMPTOMS: [(&[&str], MissingDependency); 16] = [
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

/// The missing part of a failed build.
#[derive(Clone, Copy)]
enum MissingDependency {
    /// A system package: its description, and Debian's names for it.
    System(&'static str, &'static str),
    /// Another cause, with its whole hint.
    Other(&'static str),
}

const NO_HEADERS: MissingDependency = MissingDependency::System("the C headers of Python", "python3-dev");
const NO_LIBRARY: MissingDependency = MissingDependency::System("the headers of a C library", "LIBRARY-dev");
const NO_COMPILER: MissingDependency = MissingDependency::System("a compiler", "g++ python3-dev");
const NO_RUST: MissingDependency = MissingDependency::System("a Rust compiler", "cargo");
const NO_NETWORK: MissingDependency =
    MissingDependency::Other("builds have no network: add the files to the build requirements or to the base");
const UNNAMED: MissingDependency = MissingDependency::Other(
    "its build needs a package that is not in its build requirements: build a wheel on another machine (`pip wheel`) \
        and use it: pip = { wheels = \"dist/*.whl\" }",
);

impl MissingDependency {
    /// The hint to fix it.
    fn hint(self, doing: JobPurpose) -> String {
        match (self, doing) {
            (Self::Other(hint), _) => hint.to_owned(),
            (Self::System(what, packages), JobPurpose::Query) => format!(
                "the query of its build requirements needs {what}: choose a base that has it (Debian: {packages}); \
                    layers of the recipe are not available to the query"
            ),
            (Self::System(what, packages), _) => format!(
                "its build needs {what}: install it in an earlier layer, such as run = \"apt-get update && apt-get \
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
            Self::Python { .. } => Some("choose another version of the package, or a base with another Python".into()),
            Self::Nested { .. } => Some(
                "build a wheel on another machine (`pip wheel`) and use it: pip = { wheels = \"dist/*.whl\" }".into(),
            ),
            Self::Lock(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Wheel(error) => error.hint().map(Into::into),
            Self::Wheels { .. } | Self::OtherPackage { .. } | Self::NoTop | Self::Member { .. } => Some(
                "the source violates PEP 517 or PEP 625: report this to its authors, or choose another version".into(),
            ),
            Self::File { source, .. } | Self::Write(MaterializeError { source, .. }) if is_full_disk(source) => {
                Some(FULL_DISK.into())
            }
            _ => None,
        }
    }
}
