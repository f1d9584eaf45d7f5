//! What the user asks of a container: the flags of `docker run`, typed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::annotations::ANNOTATION;
use super::capability::CapabilityFlag;
use super::cpuset::CpuSet;
use super::error::SpecError;
use super::gpus::GpuRequest;
use super::memory::MemorySwap;
use super::modes::{Ipc, Network, Nvidia};
use super::tmpfs::Tmpfs;
use super::ulimit::Ulimit;
use super::values::{EnvEntry, Hostname, PidsLimit, Size};
use super::volume::Volume;
use crate::document::canonical;

/// What a recipe's `[runtime]` may set and an image may carry.
///
/// Nothing in it shows the container files or variables of the host: an image that comes from elsewhere has no say in
/// that. What it may ask for of the host's (`ipc`, `network`) is told as a warning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuntimeSettings {
    /// Which GPUs, and what of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuRequest>,
    /// Size of `/dev/shm`; 0 is the default, 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<Size>,
    /// Whose shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<Ipc>,
    /// Whose network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The CPUs that may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<CpuSet>,
    /// Resource limits, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
}

impl RuntimeSettings {
    /// The value of [`ANNOTATION`]: the same settings always give the same text. `None` if nothing is set.
    #[must_use]
    pub fn to_annotation(&self) -> Option<String> {
        let json = serde_json::to_value(self).ok().filter(|json| *json != serde_json::json!({}))?;
        String::from_utf8(canonical(&json)).ok()
    }

    /// Reads the settings that an image carries; none if it has no such annotation.
    ///
    /// # Errors
    /// When the annotation is no JSON, or has a key or a value that this version does not know.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, SpecError> {
        let Some(text) = annotations.get(ANNOTATION) else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(SpecError::Annotation)
    }

    /// These settings, with `defaults` for what they leave open. Limits are merged by name.
    #[must_use]
    pub fn or(&self, defaults: Self) -> Self {
        let mut ulimits = defaults.ulimits;
        ulimits.retain(|limit| self.ulimits.iter().all(|own| own.name() != limit.name()));
        ulimits.extend_from_slice(&self.ulimits);
        Self {
            gpus: self.gpus.clone().or(defaults.gpus),
            shm_size: self.shm_size.or(defaults.shm_size),
            ipc: self.ipc.or(defaults.ipc),
            network: self.network.or(defaults.network),
            cpuset_cpus: self.cpuset_cpus.clone().or(defaults.cpuset_cpus),
            ulimits,
        }
    }
}

/// Which filter of system calls there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The host's profile, or ociforge's own; none for a privileged container.
    #[default]
    Default,
    /// None.
    Unconfined,
    /// This profile, in docker's format.
    Profile {
        /// What it is called in errors.
        name: String,
        /// Its JSON.
        text: String,
    },
}

/// What the user asks for. The default asks for nothing: the container is then as the image and docker's defaults say.
#[derive(Debug, Clone, Default)]
pub struct ContainerRequest {
    /// What the image may have defaults for.
    pub settings: RuntimeSettings,
    /// Requests for GPUs before the one in the settings.
    pub earlier_gpus: Vec<GpuRequest>,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open; for who runs the container, the spec does not say it.
    pub interactive: bool,
    /// Variables, in order; they win over the image's, and the last one wins.
    pub env: Vec<EnvEntry>,
    /// `user[:group]`, names or numbers, instead of the image's.
    pub user: Option<String>,
    /// Absolute path, instead of the image's.
    pub workdir: Option<String>,
    /// Instead of the image's entrypoint, and then of its command, too; empty for none.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's command; empty for the image's.
    pub command: Vec<String>,
    /// The container's host name.
    pub hostname: Option<Hostname>,
    /// Whether the root filesystem cannot be written to.
    pub read_only: bool,
    /// Directories and files of the host.
    pub volumes: Vec<Volume>,
    /// CDI devices, `vendor/class=name`.
    pub devices: Vec<String>,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Capabilities beyond docker's default ones.
    pub cap_add: Vec<CapabilityFlag>,
    /// Capabilities to do without.
    pub cap_drop: Vec<CapabilityFlag>,
    /// Whether the container has every capability and device, and sees all of `/proc` and `/sys`.
    pub privileged: bool,
    /// Whether nothing of `/proc` and `/sys` is hidden or protected.
    pub unmasked: bool,
    /// The filter of system calls.
    pub seccomp: Seccomp,
    /// Whether programs are kept from gaining privileges.
    pub no_new_privileges: bool,
    /// The most memory, in bytes.
    pub memory: Option<Size>,
    /// The most memory and swap.
    pub memory_swap: Option<MemorySwap>,
    /// The most processes and threads.
    pub pids_limit: Option<PidsLimit>,
    /// Whether the container is to be one that an unprivileged user can run.
    pub rootless: bool,
    /// How GPUs get into it.
    pub nvidia: Nvidia,
}
