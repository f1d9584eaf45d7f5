//! The user's request for a container: the flags of `docker run`, typed.

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

/// The settings of a recipe's `[runtime]`, which an image may contain.
///
/// None of them gives the container files or variables of the host, because an image may be foreign. Requests for the
/// host's namespaces (`ipc`, `network`) are reported as warnings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuntimeSettings {
    /// GPUs and their capabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuRequest>,
    /// Size of `/dev/shm`; 0 is the default, 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<Size>,
    /// The IPC namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<Ipc>,
    /// The network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// The allowed CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<CpuSet>,
    /// Resource limits, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit>,
}

impl RuntimeSettings {
    /// The value of [`ANNOTATION`]: equal settings have equal text. `None` if nothing is set.
    #[must_use]
    pub fn to_annotation(&self) -> Option<String> {
        let json = serde_json::to_value(self).ok().filter(|json| *json != serde_json::json!({}))?;
        String::from_utf8(canonical(&json)).ok()
    }

    /// Parses the settings of an image; empty without the annotation.
    ///
    /// # Errors
    /// When the annotation is not JSON, or has unknown keys or values.
    pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Self, SpecError> {
        let Some(text) = annotations.get(ANNOTATION) else { return Ok(Self::default()) };
        serde_json::from_str(text).map_err(SpecError::Annotation)
    }

    /// These settings, with `defaults` for those that are not set. Limits are merged by name.
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

/// The filter of system calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// The host's profile, or ociforge's own; no filter for a privileged container.
    #[default]
    Default,
    /// No filter.
    Unconfined,
    /// This profile, in docker's format.
    Profile {
        /// The name in errors.
        name: String,
        /// Its JSON.
        text: String,
    },
}

/// The user's request. The default requests nothing: the image and docker's defaults apply.
#[derive(Debug, Clone, Default)]
pub struct ContainerRequest {
    /// Settings for which the image may have defaults.
    pub settings: RuntimeSettings,
    /// Requests for GPUs before the one in the settings.
    pub earlier_gpus: Vec<GpuRequest>,
    /// Whether the process has a terminal.
    pub tty: bool,
    /// Whether its standard input stays open; only for the program that runs the container, not part of the spec.
    pub interactive: bool,
    /// Variables, in order; they override the image's, and later ones override earlier ones.
    pub env: Vec<EnvEntry>,
    /// `user[:group]`, names or numbers; overrides the image's.
    pub user: Option<String>,
    /// Absolute path; overrides the image's.
    pub workdir: Option<String>,
    /// Overrides the image's entrypoint, and removes its command; empty for no entrypoint.
    pub entrypoint: Option<Vec<String>>,
    /// Overrides the image's command; empty for the image's.
    pub command: Vec<String>,
    /// The container's host name.
    pub hostname: Option<Hostname>,
    /// Whether the root filesystem is read-only.
    pub read_only: bool,
    /// Bind mounts of the host.
    pub volumes: Vec<Volume>,
    /// CDI devices, `vendor/class=name`.
    pub devices: Vec<String>,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Capabilities to add to docker's default ones.
    pub cap_add: Vec<CapabilityFlag>,
    /// Capabilities to drop.
    pub cap_drop: Vec<CapabilityFlag>,
    /// Whether the container gets every capability and device, and all of `/proc` and `/sys`.
    pub privileged: bool,
    /// Whether no path in `/proc` and `/sys` is masked or read-only.
    pub unmasked: bool,
    /// The filter of system calls.
    pub seccomp: Seccomp,
    /// Whether programs cannot gain privileges.
    pub no_new_privileges: bool,
    /// The limit of memory in bytes.
    pub memory: Option<Size>,
    /// The limit of memory and swap.
    pub memory_swap: Option<MemorySwap>,
    /// The limit of processes and threads.
    pub pids_limit: Option<PidsLimit>,
    /// Whether an unprivileged user runs the container.
    pub rootless: bool,
    /// The way to inject GPUs.
    pub nvidia: Nvidia,
}
