//! The errors of a build.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ociforge_layers::source::capture::CaptureError;
use ociforge_layers::{LayerPath, PackError, PlaceError};
use ociforge_manifests::{ConfigValueError, ImageError, Platform};

use crate::base::facts::FactsError;
use crate::content::ContentError;
use crate::error::{Explain, FULL_DISK, is_full_disk};
use crate::layer::{EpochError, LayerError, Step};
use crate::python::install::InstallError;
use crate::python::{FetchError, ResolveError, WheelBuildError};
use crate::rootfs::writable::WritableRootfsError;
use crate::run::bundle::BundleError;
use crate::transport::ImageSourceError;
use ociforge_sandbox::SandboxError;
use ociforge_sandbox::step::{self, Ended};
use tokio::task::JoinError;

/// The error of a build.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The base cannot be resolved.
    #[error("cannot resolve the base {name}")]
    Base {
        /// The name of the base.
        name: String,
        /// The cause.
        source: Box<ImageSourceError>,
    },
    /// An image that a step copies from cannot be resolved.
    #[error("cannot resolve the image {name} (line {line} of the recipe)")]
    CopiedImage {
        /// The name of the image.
        name: String,
        /// The line of the recipe.
        line: usize,
        /// The cause.
        source: Box<ImageSourceError>,
    },
    /// The base's layers cannot be read for its files and its Python.
    #[error("cannot read the layers of the base {name}")]
    Facts {
        /// The name of the base.
        name: String,
        /// The cause.
        source: Box<FactsError>,
    },
    /// Python packages for a base without Python.
    #[error("cannot install Python packages: {base} has no Python")]
    NoPython {
        /// The name of the base.
        base: String,
    },
    /// The lock is invalid, or the resolution failed.
    #[error(transparent)]
    Lock(#[from] ResolveError),
    /// A wheel cannot be downloaded.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A platform that is not supported.
    #[error("images are built for linux, not for {0}")]
    System(Platform),
    /// The lock has wheels for a layer that uses none from it.
    #[error("ociforge.lock has packages for layer {layer}{}, which is not a pip layer of the recipe", of_stage(.stage))]
    Misplaced {
        /// The name of the stage; `None` for the stage that makes the image.
        stage: Option<String>,
        /// The layer, counted from 0.
        layer: usize,
    },
    /// A step failed.
    #[error("cannot build the layer `{step}` (line {line} of the recipe)")]
    Step {
        /// The step.
        step: String,
        /// The line of the recipe.
        line: usize,
        /// The cause.
        source: Box<StepError>,
    },
    /// A layer cannot be packed.
    #[error("cannot pack the layer `{layer}`")]
    Pack {
        /// The layer.
        layer: String,
        /// The cause.
        source: PackError,
    },
    /// The store cannot be written.
    #[error("cannot write to the store")]
    Store(#[source] io::Error),
    /// A value of `[config]` has an invalid reference to a variable.
    #[error("cannot use [config]")]
    Config(#[from] ConfigValueError),
    /// The documents of the image contradict each other.
    #[error("cannot assemble the image")]
    Image(#[from] ImageError),
    /// The build of a wheel or of bytecode failed.
    #[error(transparent)]
    Source(#[from] WheelBuildError),
    /// `SOURCE_DATE_EPOCH` is invalid.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The image cannot be copied to its destination.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The user interrupted the build.
    #[error("interrupted")]
    Interrupted,
    /// A fault of ociforge.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// The error of a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The content of the layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// Wheels cannot be installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The tree cannot be placed onto the layers below.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A value has an invalid reference to a variable.
    #[error(transparent)]
    Value(#[from] ConfigValueError),
    /// A directory without a Python project.
    #[error("{} has neither pyproject.toml nor setup.py", .0.display())]
    NoProject(PathBuf),
    /// The sandbox is not available.
    #[error("no isolation is available for the step")]
    NoSandbox(#[source] Arc<SandboxError>),
    /// The root filesystem cannot be created.
    #[error("cannot create the step's root filesystem")]
    Rootfs(#[from] WritableRootfsError),
    /// A mount of the step cannot be prepared.
    #[error("cannot prepare the mount at {to}")]
    Mount {
        /// The mount point.
        to: String,
        /// The cause.
        source: io::Error,
    },
    /// The runtime spec of the process cannot be created.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The process cannot be started.
    #[error(transparent)]
    Start(#[from] step::SandboxStepError),
    /// The process failed.
    #[error("{}{}", ending(*.ended), said(.last))]
    Failed {
        /// Its exit code or signal.
        ended: Ended,
        /// The last lines of its output.
        last: Vec<String>,
        /// Whether the disk was full.
        full: bool,
    },
    /// The changes of the process cannot become a layer.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The documents of the image so far contradict each other.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store cannot be written.
    #[error("cannot write to the store")]
    Store(#[source] io::Error),
    /// The user interrupted the build.
    #[error("interrupted")]
    Interrupted,
    /// A fault of ociforge.
    #[error("internal error: the thread of the step ended early")]
    Thread(#[source] JoinError),
}

/// The error of a step.
pub(super) fn failed(step: &Step, source: impl Into<StepError>) -> BuildError {
    BuildError::Step { step: step.description.clone(), line: step.line, source: Box::new(source.into()) }
}

fn of_stage(stage: &Option<String>) -> String {
    stage.as_ref().map_or_else(String::new, |stage| format!(" of the stage `{stage}`"))
}

fn ending(ended: Ended) -> String {
    match ended {
        Ended::Exited(code) => format!("exit code {code}"),
        Ended::Killed(signal) => format!("killed by signal {signal}"),
    }
}

/// Whether a line is a typical message of a program without a network.
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

/// Formats the last lines of a process, one per line.
fn said(last: &[String]) -> String {
    last.iter().fold(String::new(), |text, line| text + "\n    " + line)
}

fn value_hint() -> Option<String> {
    Some("$NAME and ${NAME} refer to variables of the base and of earlier keys; write $$ for a dollar sign".into())
}

impl BuildError {
    /// The error of a thread that ended early: it panicked.
    pub(super) fn thread(_: JoinError) -> Self {
        Self::Internal("a thread of the build ended early")
    }

    /// The path that requires a read of the base's layers before the build can continue.
    pub(super) fn unknown_path(&self) -> Option<&LayerPath> {
        let Self::Step { source, .. } = self else { return None };
        if let StepError::Place(PlaceError::Unknown(path)) = &**source { Some(path) } else { None }
    }

    /// Whether the cause is that the process did not try to enter namespaces.
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
    /// The exit code of a failed step.
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
            Self::Base { source, .. } | Self::CopiedImage { source, .. } => source.hint(),
            Self::Facts { source, .. } => source.hint(),
            Self::NoPython { .. } => Some(
                "if the base has Python in an unusual place, set version, site-packages and executable under [python] \
                    in the recipe"
                    .into(),
            ),
            Self::Lock(error) => error.hint(),
            Self::Fetch(error) => error.hint(),
            Self::Content(error) => error.hint(),
            Self::Source(error) => error.hint(),
            Self::Config(_) => value_hint(),
            Self::Misplaced { .. } => Some("run `ociforge lock`".into()),
            Self::Epoch(error) => error.hint(),
            Self::Store(error) | Self::Pack { source: PackError::Write(error), .. } if is_full_disk(error) => {
                Some(FULL_DISK.into())
            }
            Self::Step { source, .. } => source.hint(),
            _ => None,
        }
    }
}

impl Explain for StepError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Layer(error) => error.hint(),
            Self::Install(error) => error.hint(),
            Self::Place(PlaceError::Path(_) | PlaceError::Tree(_)) => {
                Some("leave the path out, or give it another name".into())
            }
            Self::NoSandbox(error) => error.hint(),
            Self::Rootfs(error) => error.hint(),
            // The hint about --user is for containers.
            Self::Bundle(error) => error.hint().map(|hint| match hint.contains("--user") {
                true => "give the step's user by number, such as user = \"1000:1000\", or add the user in an earlier \
                        layer"
                    .into(),
                false => hint,
            }),
            Self::Start(error) => error.hint(),
            Self::Capture(error) => error.hint().map(Into::into),
            Self::Value(_) => value_hint(),
            Self::Place(PlaceError::OntoDirectory { .. }) => {
                Some("name the file itself, or remove the directory in an earlier `run` step".into())
            }
            Self::Place(PlaceError::NotADirectory { .. }) => {
                Some("choose another path, or remove the file in an earlier `run` step".into())
            }
            Self::Place(PlaceError::Loop { .. }) => {
                Some("choose another path, or repair the links in an earlier `run` step".into())
            }
            Self::Place(PlaceError::OpaqueRoot) => {
                Some("remove the entry from the archive, or use `base = \"scratch\"`".into())
            }
            Self::Failed { full: true, .. } => Some(FULL_DISK.into()),
            Self::Failed { last, .. } if last.iter().any(|line| wants_network(line)) => {
                Some("steps have no network by default: set network = \"host\" in the layer".into())
            }
            Self::Store(error) if is_full_disk(error) => Some(FULL_DISK.into()),
            Self::NoProject(_) => Some("name the directory of the project, relative to the recipe's directory".into()),
            _ => None,
        }
    }
}
