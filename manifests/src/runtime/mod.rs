//! The runtime spec (runtime-spec, config.md) of an image: [`runtime_spec`] makes it of the image's config, of what the
//! user asks for, and of facts about the host.
//!
//! The request is docker's: its flags, its texts, its defaults. The JSON is put together as JSON and not with
//! `oci_spec::runtime`, whose sets of capabilities have another order at every run.

mod annotations;
pub mod capabilities;
pub mod cdi;
pub mod cpuset;
mod defaults;
pub mod driver;
mod env;
mod error;
pub mod gpus;
mod hook;
mod image_volumes;
pub mod memory;
pub mod modes;
mod mounts;
mod nvidia;
pub mod request;
pub mod requirements;
mod resources;
mod rootless;
mod seccomp;
pub mod security;
mod spec;
pub mod tmpfs;
pub mod toolkit;
pub mod ulimit;
pub mod user;
pub mod values;
pub mod volume;

pub use capabilities::{Capabilities, Capability};
pub use cpuset::CpuSet;
pub use defaults::NETWORK_SYSCTLS;
pub use driver::DriverVersion;
pub use error::SpecError;
pub use gpus::{GpuError, GpuRequest};
pub use hook::HOOK_NAME;
pub use image_volumes::image_volumes;
pub use memory::MemorySwap;
pub use modes::{Ipc, Network, Nvidia};
pub use nvidia::GPU_KIND;
pub use request::{ANNOTATION, Request, Seccomp, Settings};
pub use rootless::{IdMap, IdMappings, LOCKED};
pub use seccomp::ProfileError;
pub use security::SecurityOption;
pub use spec::{Emitted, Host, runtime_spec};
pub use tmpfs::Tmpfs;
pub use toolkit::{HookFault, Toolkit};
pub use ulimit::Ulimit;
pub use user::{UserError, Users};
pub use values::{EnvEntry, Hostname, PidsLimit, Size, ValueError};
pub use volume::{Volume, VolumeError};

/// The word of `known` that `word` was probably meant to be.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    let likeness = |candidate: &&str| strsim::jaro_winkler(&word, &candidate.to_lowercase());
    let best = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.8).then_some(best)
}

#[cfg(test)]
mod tests;
