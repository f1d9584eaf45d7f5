//! The runtime spec (runtime-spec, config.md) of an image: [`runtime_spec`] creates it from the image's config, the
//! user's request, and facts about the host.
//!
//! Requests have docker's flags, syntax and defaults. The spec is built as JSON and not with `oci_spec::runtime`, whose
//! sets of capabilities have a random order.

mod annotations;
mod capabilities;
mod capability;
pub mod cdi;
pub mod cpuset;
mod defaults;
pub mod driver;
mod emitted;
mod env;
mod error;
mod flag_error;
pub mod gpus;
mod hook;
mod host;
mod id_mappings;
mod image_volumes;
pub mod memory;
pub mod modes;
mod mount;
mod mounts;
mod nvidia;
mod path;
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

pub use annotations::ANNOTATION;
pub use capability::{Capability, CapabilityFlag};
pub use cdi::GPU_KIND;
pub use cpuset::CpuSet;
pub use defaults::NETWORK_SYSCTLS;
pub use driver::DriverVersion;
pub use emitted::Emitted;
pub use error::SpecError;
pub use flag_error::FlagError;
pub use gpus::{GpuError, GpuRequest};
pub use hook::HOOK_NAME;
pub use host::Host;
pub use id_mappings::{IdMap, IdMappings};
pub use image_volumes::image_volumes;
pub use memory::MemorySwap;
pub use modes::{Ipc, Network, Nvidia};
pub use request::{ContainerRequest, RuntimeSettings, Seccomp};
pub use rootless::LOCKED;
pub use seccomp::ProfileError;
pub use security::SecurityOption;
pub use spec::runtime_spec;
pub use tmpfs::Tmpfs;
pub use toolkit::{HookFault, Toolkit};
pub use ulimit::Ulimit;
pub use user::{UserDatabase, UserError};
pub use values::{EnvEntry, Hostname, PidsLimit, Size};
pub use volume::{Volume, VolumeError};

#[cfg(test)]
mod tests;
