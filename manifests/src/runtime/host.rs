//! Facts about the host that a runtime spec depends on.

use std::collections::{BTreeMap, BTreeSet};

use super::cdi::{CdiRegistry, DeviceFacts};
use super::cpuset::CpuSet;
use super::defaults::NETWORK_SYSCTLS;
use super::driver::DriverVersion;
use super::id_mappings::IdMappings;
use super::toolkit::Toolkit;
use super::user::UserDatabase;

/// The inputs besides the image and the request: facts about the host, and about the unpacked root filesystem.
#[derive(Debug, Clone)]
pub struct Host {
    /// `root.path`: absolute, or relative to the bundle.
    pub root: String,
    /// The accounts of the root filesystem, if it exists.
    pub users: Option<UserDatabase>,
    /// Whether the container runs on this host now, so that missing resources are errors or are replaced.
    pub runs_here: bool,
    /// The caller's working directory, which sources of volumes are relative to.
    pub directory: Option<String>,
    /// The path of NVIDIA's hook, if it is installed.
    pub nvidia_hook: Option<String>,
    /// The NVIDIA driver, if it is loaded.
    pub driver: Option<DriverVersion>,
    /// The devices that CDI files describe.
    pub cdi: CdiRegistry,
    /// The existing device nodes of [`CdiRegistry::host_paths`].
    pub devices: BTreeMap<String, DeviceFacts>,
    /// Whether only cgroup version 2 is mounted.
    pub cgroup_v2: bool,
    /// The unusable files of [`CdiRegistry::sources`], with the reasons.
    pub absent: BTreeMap<String, String>,
    /// NVIDIA's toolkit.
    pub toolkit: Toolkit,
    /// Annotations for the runtime, in specs with hooks.
    pub hook_annotations: BTreeMap<String, String>,
    /// The available CPUs, if known.
    pub cpus: Option<CpuSet>,
    /// Whether cgroups here cannot limit swap.
    pub cannot_limit_swap: bool,
    /// The existing kernel parameters of [`NETWORK_SYSCTLS`].
    pub sysctls: BTreeSet<String>,
    /// Whether files have SELinux labels, which a container needs to read them.
    pub selinux: bool,
    /// Read-only files for a container on the host's network, such as `/etc/resolv.conf`: destinations and sources.
    pub network_files: BTreeMap<String, String>,
    /// Files created for this container, with any network, such as `/etc/hostname`: destinations and sources.
    pub files: BTreeMap<String, String>,
    /// Initialised directories for the image's volumes: destinations (see [`image_volumes`](super::image_volumes()))
    /// and sources.
    pub volumes: BTreeMap<String, String>,
    /// The architecture of the kernel in Go's spelling; `None` for the image's.
    pub architecture: Option<String>,
    /// The kernel's version and patch level, if known.
    pub kernel: Option<(u32, u32)>,
    /// The host's seccomp profile in docker's format, if it has one.
    pub seccomp: Option<String>,
    /// The capabilities that a runtime can grant here, bit 0 for capability 0; `None` for all. A rootless container has
    /// all of them, as in every new user namespace.
    pub capabilities: Option<u64>,
    /// The caller's hard limits by their names in docker (`nofile`), which only CAP_SYS_RESOURCE can raise; `u64::MAX`
    /// is no limit.
    pub limits: BTreeMap<String, u64>,
    /// For rootless containers: the ids of the user namespace. `None` if the container starts inside an existing one
    /// with unknown mappings.
    pub mappings: Option<IdMappings>,
    /// For rootless containers: whether the container starts inside an existing user namespace, with these mappings.
    pub inside_user_namespace: bool,
    /// For rootless containers: the cgroup controllers that the caller can use (`cpuset`, `memory`, `pids`).
    pub delegated: BTreeSet<String>,
}

impl Default for Host {
    /// A host with unknown properties, and the root filesystem at `rootfs` in the bundle.
    fn default() -> Self {
        Self {
            root: "rootfs".into(),
            users: None,
            runs_here: false,
            directory: None,
            nvidia_hook: None,
            driver: None,
            cdi: CdiRegistry::default(),
            devices: BTreeMap::new(),
            absent: BTreeMap::new(),
            toolkit: Toolkit::default(),
            hook_annotations: BTreeMap::new(),
            cgroup_v2: true,
            cpus: None,
            cannot_limit_swap: false,
            sysctls: NETWORK_SYSCTLS.iter().map(|(name, _)| (*name).to_owned()).collect(),
            selinux: false,
            network_files: BTreeMap::new(),
            files: BTreeMap::new(),
            volumes: BTreeMap::new(),
            architecture: None,
            kernel: None,
            seccomp: None,
            capabilities: None,
            limits: BTreeMap::new(),
            mappings: None,
            inside_user_namespace: false,
            delegated: BTreeSet::new(),
        }
    }
}
