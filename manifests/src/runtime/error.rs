//! Errors of creating a runtime spec.

use super::annotations::ANNOTATION;
use super::cdi::{CdiError, LeftOut, REGENERATE};
use super::memory::LEAST_MEMORY;
use super::path::clean;
use super::requirements::RequirementError;
use super::seccomp::profile::ProfileError;
use super::toolkit::HookFault;
use super::user::UserError;
use super::values::Size;

/// Why a runtime spec cannot be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// An image for another operating system.
    #[error("the image is for {0}, and runtime specs are created for linux only")]
    System(String),
    /// The settings in the image's annotation are invalid.
    #[error("the image's annotation {ANNOTATION} is invalid")]
    Annotation(#[source] serde_json::Error),
    /// No entrypoint and no command.
    #[error("the image has no command, and none was given")]
    NoCommand,
    /// The user cannot be resolved.
    #[error(transparent)]
    User(#[from] UserError),
    /// A working directory that is not absolute.
    #[error("the working directory `{0}` is not an absolute path")]
    Workdir(String),
    /// Two volumes with one destination.
    #[error("two volumes have the destination {0}")]
    SamePlace(String),
    /// A volume with a relative source, without a directory that it is relative to.
    #[error("the volume's source `{0}` is relative")]
    RelativeSource(String),
    /// A NUL byte, which the kernel does not accept.
    #[error("the {0} has a NUL")]
    Nul(&'static str),
    /// A CDI device for NVIDIA's hook, which does not support CDI.
    #[error("`{0}` is the name of a CDI device, which NVIDIA's hook does not know")]
    CdiName(String),
    /// A user or group that is not mapped in the user namespace.
    #[error("the container's user namespace has no {what} {id}")]
    Unmapped {
        /// `user` or `group`.
        what: &'static str,
        /// Its number in the container.
        id: u32,
    },
    /// The user's seccomp profile.
    #[error("cannot use the seccomp profile {name}")]
    Seccomp {
        /// The profile in the user's spelling.
        name: String,
        /// The cause.
        source: ProfileError,
    },
    /// Less memory than a container needs to start.
    #[error("--memory {0} is too little to start a container")]
    Memory(Size),
    /// A limit of memory and swap without a limit of memory.
    #[error("--memory-swap {0} is given without --memory")]
    SwapAlone(Size),
    /// A limit of memory and swap below that of memory.
    #[error("--memory-swap {swap} is below --memory {memory}")]
    SwapBelowMemory {
        /// The limit of memory.
        memory: Size,
        /// The limit of memory and swap.
        swap: Size,
    },
    /// GPUs on a host without a way to inject them.
    #[error("this machine has neither CDI files for NVIDIA's GPUs nor NVIDIA's hook, so the container gets no GPUs")]
    NoToolkit(#[source] Option<LeftOut>),
    /// A request that mixes CDI and the hook.
    #[error("{0} needs CDI, and --nvidia hook needs NVIDIA's hook")]
    Mixed(String),
    /// CDI devices that cannot be injected.
    #[error(transparent)]
    Cdi(#[from] CdiError),
    /// NVIDIA's hook is installed, but gives no GPUs.
    #[error("{0}, so the container gets no GPUs")]
    Hook(HookFault),
    /// Neither CDI files nor the hook can serve the request.
    #[error("{cdi}, and {hook}")]
    Neither {
        /// The error of CDI.
        cdi: CdiError,
        /// The fault of the hook.
        hook: HookFault,
    },
    /// The driver does not meet the image's requirement.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
}

impl SpecError {
    /// The hint.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::User(error) => error.hint(),
            Self::System(_) => Some("choose a linux platform with --platform".into()),
            Self::Annotation(_) => Some("a newer ociforge may have made the image; update, or rebuild it".into()),
            Self::NoCommand => Some("give the command after `--`, such as `-- bash`".into()),
            Self::Workdir(path) => Some(format!("write an absolute path: {}", clean(path))),
            Self::SamePlace(_) => Some("leave one of them out".into()),
            Self::RelativeSource(_) => Some("write an absolute path".into()),
            Self::CdiName(_) => Some("name the GPU by index or UUID, or use --nvidia cdi".into()),
            Self::NoToolkit(_) => Some(format!(
                "install nvidia-container-toolkit-base and run {REGENERATE}, or start it without GPUs by --nvidia none"
            )),
            Self::Hook(fault) => Some(fault.hint()),
            Self::Neither { cdi, .. } => cdi.hint(),
            Self::Mixed(_) => {
                Some("the hook fails on what CDI has injected already; use --nvidia cdi, or --gpus alone".into())
            }
            Self::Unmapped { .. } => Some("use --user 0, or add a range of ids as `ociforge doctor` shows".into()),
            Self::Seccomp { .. } => {
                Some("give a profile in docker's format, or --security-opt seccomp=unconfined".into())
            }
            Self::SwapAlone(_) => Some("give --memory, too: --memory-swap limits memory and swap together".into()),
            Self::SwapBelowMemory { memory, .. } => {
                Some(format!("give at least --memory-swap {memory}, for no swap, or -1 for no limit on swap"))
            }
            Self::Memory(_) => Some(format!("give at least {LEAST_MEMORY}")),
            Self::Cdi(error) => error.hint(),
            Self::Requirement(error) => error.hint(),
            Self::Nul(_) => None,
        }
    }
}
