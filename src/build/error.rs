//! Why a build fails.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ociforge_layers::source::capture::CaptureError;
use ociforge_layers::source::directory::DirectoryError;
use ociforge_layers::source::ignore::PatternError;
use ociforge_layers::source::tar::TarError;
use ociforge_layers::source::wheel::WheelError;
use ociforge_layers::{LayerPath, PackError, PathError, PlaceError, TreeError};
use ociforge_manifests::{ImageError, Platform, ValueError};

use super::wheel_builder::SourceError;
use crate::base::facts::FactsError;
use crate::content::ContentError;
use crate::error::Explain;
use crate::locate::LocateError;
use crate::lock::{FetchError, LockError};
use crate::rootfs::stage::StageError;
use crate::run::bundle::BundleError;
use ociforge_sandbox::SandboxError;
use ociforge_sandbox::step::{self, Ended};

/// Why a build fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base can't be had.
    #[error("cannot resolve the base {name}")]
    Base {
        /// Its name.
        name: String,
        /// Why.
        source: Box<LocateError>,
    },
    /// What must be known of the base can't be found out.
    #[error("cannot look into the base {name}")]
    Facts {
        /// Its name.
        name: String,
        /// Why.
        source: Box<FactsError>,
    },
    /// Python packages for a base without Python.
    #[error("{base} has no Python, so no packages can be installed for it")]
    NoPython {
        /// The base's name.
        base: String,
    },
    /// The lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A wheel can't be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A platform that no image can be built for.
    #[error("images are built for linux, not for {0}")]
    System(Platform),
    /// The lock has wheels for a layer that takes none from it.
    #[error("ociforge.lock has wheels for layer {layer}, which is no pip layer of the recipe")]
    Misplaced {
        /// The layer, the first being 0.
        layer: usize,
    },
    /// The step in that line of the recipe fails.
    #[error("cannot make the layer `{step}` (line {line} of the recipe)")]
    Step {
        /// The step.
        step: String,
        /// The line.
        line: usize,
        /// Why.
        source: Box<StepError>,
    },
    /// A layer can't be packed.
    #[error("cannot pack the layer `{layer}`")]
    Pack {
        /// The layer.
        layer: String,
        /// Why.
        source: PackError,
    },
    /// The store can't be written.
    #[error("cannot write to the store")]
    Store(#[source] io::Error),
    /// A value of `[config]` refers to variables in a way that can't be read.
    #[error("cannot use [config]")]
    Config(#[from] ValueError),
    /// The image's documents contradict each other.
    #[error("cannot assemble the image")]
    Image(#[from] ImageError),
    /// A source becomes no wheel, or modules become no bytecode.
    #[error("cannot build {what}")]
    Source {
        /// What of.
        what: String,
        /// Why.
        source: Box<SourceError>,
    },
    /// `SOURCE_DATE_EPOCH` is no time.
    #[error("SOURCE_DATE_EPOCH is `{0}`, which is not a number of seconds since 1970")]
    Epoch(String),
    /// The image can't be copied to where it is to go.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The user said stop.
    #[error("interrupted")]
    Interrupted,
}

/// Why a step can't make its layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// Files can't be copied.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Patterns of `.dockerignore` or `exclude` are malformed.
    #[error("cannot use the patterns of {place}")]
    Pattern {
        /// `.dockerignore` or `exclude`.
        place: &'static str,
        /// Why.
        source: PatternError,
    },
    /// A tar archive can't be taken in.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A wheel can't be installed.
    #[error(transparent)]
    Wheel(#[from] WheelError),
    /// Two packages that can't be installed together.
    #[error("{file} has a file where {directory} has a directory: {path}")]
    Occupied {
        /// The package with the file, and its version.
        file: String,
        /// The package with the directory.
        directory: String,
        /// Where.
        path: String,
    },
    /// Two entries contradict each other.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The tree can't be placed onto the layers below.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A path that no layer can have.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A value refers to variables in a way that can't be read.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// A path that leads out of the recipe's directory.
    #[error("{} leads out of the recipe's directory", .0.display())]
    Outside(PathBuf),
    /// A file can't be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory without a Python project.
    #[error("{} has neither pyproject.toml nor setup.py", .0.display())]
    NoProject(PathBuf),
    /// A pattern that no wheel fits.
    #[error("`{0}` fits no file")]
    NoWheels(String),
    /// A pattern that is malformed.
    #[error("`{pattern}` is not a pattern")]
    Glob {
        /// The pattern.
        pattern: String,
        /// Why.
        source: glob::PatternError,
    },
    /// What steps run in is not to be had.
    #[error("there is nothing to run it in")]
    NoSandbox(#[source] Arc<SandboxError>),
    /// The root filesystem can't be made.
    #[error("cannot make the step's root filesystem")]
    Stage(#[from] StageError),
    /// What is mounted into the step can't be made ready.
    #[error("cannot prepare what is mounted at {to}")]
    Mount {
        /// Where it is mounted.
        to: String,
        /// Why.
        source: io::Error,
    },
    /// The process can't be described.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The process can't be run.
    #[error(transparent)]
    Start(#[from] step::StepError),
    /// The process failed.
    #[error("{}{}", ending(*.ended), said(.last))]
    Failed {
        /// How it ended.
        ended: Ended,
        /// The last lines that it wrote.
        last: Vec<String>,
        /// Whether there was no room left for what it writes.
        full: bool,
    },
    /// What the process changed can't become a layer.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The image so far contradicts itself.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store can't be written.
    #[error("cannot write to the store")]
    Store(#[source] io::Error),
    /// The user said stop.
    #[error("interrupted")]
    Interrupted,
}

fn ending(ended: Ended) -> String {
    match ended {
        Ended::Exited(code) => format!("exit code {code}"),
        Ended::Killed(signal) => format!("killed by signal {signal}"),
    }
}

/// Whether a line is what programs say that find no network.
fn wants_network(line: &str) -> bool {
    const SAID: [&str; 5] = [
        "Temporary failure resolving",
        "Temporary failure in name resolution",
        "Could not resolve",
        "Name or service not known",
        "Network is unreachable",
    ];
    SAID.iter().any(|said| line.contains(said))
}

/// The last lines of a process, each on a line of its own.
fn said(last: &[String]) -> String {
    last.iter().fold(String::new(), |text, line| text + "\n    " + line)
}

fn value_hint() -> Option<String> {
    Some("$NAME and ${NAME} are variables of the base and of keys before; write $$ for a dollar".into())
}

fn full() -> Option<String> {
    Some("free some space (`ociforge cache prune`), or choose another place with --store".into())
}

impl BuildError {
    /// The path for which the base's layers must be read to go on.
    pub(super) fn unknown_path(&self) -> Option<&LayerPath> {
        let Self::Step { source, .. } = self else { return None };
        if let StepError::Place(PlaceError::Unknown(path)) = &**source { Some(path) } else { None }
    }

    /// Whether it is for want of namespaces that nobody tried to enter.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if error.downcast_ref::<Arc<SandboxError>>().is_some_and(|error| matches!(**error, SandboxError::Outside)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl Explain for BuildError {
    /// A failed step's own.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Step { source, .. } => match &**source {
                StepError::Failed { ended: Ended::Exited(code), .. } => *code,
                StepError::Failed { ended: Ended::Killed(signal), .. } => u8::try_from(128 + signal).unwrap_or(1),
                StepError::Start(error) if error.exit_code() < 128 && error.exit_code() != 125 => error.exit_code(),
                _ => 1,
            },
            _ => 1,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Base { source, .. } => source.hint(),
            Self::Facts { source, .. } => source.hint(),
            Self::NoPython { .. } => Some(
                "if it has one that was not found, state it in the recipe: [python] version, site-packages, executable"
                    .into(),
            ),
            Self::Lock(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Content(error) => error.hint(),
            Self::Source { source, .. } => source.hint(),
            Self::Config(_) => value_hint(),
            Self::Misplaced { .. } => Some("run `ociforge lock`".into()),
            Self::Epoch(_) => Some("unset it, or set it to something like 1700000000".into()),
            Self::Store(error) | Self::Pack { source: PackError::Write(error), .. }
                if error.kind() == io::ErrorKind::StorageFull =>
            {
                full()
            }
            Self::Step { source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl Explain for StepError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Wheel(error) => error.hint().map(Into::into),
            Self::NoSandbox(error) => error.hint(),
            Self::Stage(error) => error.hint(),
            // What is said about --user is for those who run containers.
            Self::Bundle(error) => error.hint().map(|hint| match hint.contains("--user") {
                true => {
                    "give the step's user by number, such as user = \"1000:1000\", or add it in a layer before".into()
                }
                false => hint,
            }),
            Self::Start(error) => error.hint(),
            Self::Capture(error) => error.hint().map(Into::into),
            Self::Value(_) => value_hint(),
            Self::Place(PlaceError::OntoDirectory { .. }) => {
                Some("name the file itself, or remove the directory in a `run` step before".into())
            }
            Self::Place(PlaceError::NotADirectory { .. }) => {
                Some("choose another path, or remove the file in a `run` step before".into())
            }
            Self::Place(PlaceError::Loop { .. }) => {
                Some("choose another path, or mend the links in a `run` step before".into())
            }
            Self::Place(PlaceError::OpaqueRoot) => {
                Some("build on `base = \"scratch\"`, or take the entry out of the archive".into())
            }
            Self::Failed { full: true, .. } => full(),
            Self::Failed { last, .. } if last.iter().any(|line| wants_network(line)) => {
                Some("a step sees no network unless its layer has network = \"host\"".into())
            }
            Self::Store(error) if error.kind() == io::ErrorKind::StorageFull => full(),
            Self::Outside(_) => Some("copy it into the directory, or move the recipe up".into()),
            Self::NoProject(_) => {
                Some("name the directory that has the project; it is relative to the recipe's directory".into())
            }
            Self::Occupied { .. } => {
                Some("one of them would be lost: leave one out, or choose a version of it that has no such path".into())
            }
            Self::NoWheels(_) => Some("patterns are relative to the recipe's directory".into()),
            Self::Directory(DirectoryError::Excluded(_)) => Some(
                "take it out of .dockerignore and `exclude`, or name it there in a line that begins with `!`".into(),
            ),
            Self::Directory(DirectoryError::Read { source, .. }) | Self::Read { source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Some("paths are relative to the recipe's directory".into())
            }
            _ => None,
        }
    }
}
