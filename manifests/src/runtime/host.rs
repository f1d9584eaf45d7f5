//! Facts about the host that a runtime spec depends on.

use std::collections::{BTreeMap, BTreeSet};

use super::cdi::{CdiRegistry, DeviceFacts};
use super::cpuset::CpuSet;
use super::defaults::NETWORK_SYSCTLS;
use super::driver::DriverVersion;
use super::id_mappings::IdMappings;
use super::toolkit::Toolkit;
use super::user::UserDatabase;

/// What lies outside the image and the request: facts about the host, and about the unpacked root filesystem.
#[derive(Debug, Clone)]
pub struct Host {
    /// `root.path`: absolute, or relative to the bundle.
    pub root: String,
    /// The accounts of the root filesystem, if it is there to look into.
    pub users: Option<UserDatabase>,
    /// Whether the container is run on this host, now, so that what it lacks can be told or made up for.
    pub runs_here: bool,
    /// The caller's working directory, from which relative sources of volumes count.
    pub directory: Option<String>,
    /// Where NVIDIA's hook is, if it was found.
    pub nvidia_hook: Option<String>,
    /// NVIDIA's driver, if there is one.
    pub driver: Option<DriverVersion>,
    /// The devices that CDI files describe.
    pub cdi: CdiRegistry,
    /// The device nodes that are there, of [`CdiRegistry::host_paths`].
    pub devices: BTreeMap<String, DeviceFacts>,
    /// Whether cgroups are version 2 alone.
    pub cgroup_v2: bool,
    /// Of the files that [`CdiRegistry::sources`] names, those that cannot be used, and why.
    pub absent: BTreeMap<String, String>,
    /// NVIDIA's toolkit.
    pub toolkit: Toolkit,
    /// Annotations for the runtime, in a spec with hooks.
    pub hook_annotations: BTreeMap<String, String>,
    /// The CPUs that there are, if that is known.
    pub cpus: Option<CpuSet>,
    /// Whether cgroups have no limit for swap here.
    pub cannot_limit_swap: bool,
    /// The kernel's parameters of [`NETWORK_SYSCTLS`] that there are.
    pub sysctls: BTreeSet<String>,
    /// Whether files have SELinux labels, without which a container cannot read them.
    pub selinux: bool,
    /// Files that a container on the host's network shares, read-only, such as `/etc/resolv.conf`: where each goes, and
    /// where it is.
    pub network_files: BTreeMap<String, String>,
    /// Files made for this container, whatever its network, such as `/etc/hostname`: where each goes, and where it is.
    pub files: BTreeMap<String, String>,
    /// Seeded directories for the image's volumes: where each goes (see [`image_volumes`](super::image_volumes())), and
    /// where it is.
    pub volumes: BTreeMap<String, String>,
    /// The architecture of the kernel in Go's names; the image's, if it is not known.
    pub architecture: Option<String>,
    /// The kernel's version and patch level, if that is known.
    pub kernel: Option<(u32, u32)>,
    /// The host's seccomp profile in docker's format, if it has one.
    pub seccomp: Option<String>,
    /// The capabilities that a runtime can grant here, bit 0 for capability 0; `None` for all. The rootless form has all
    /// of them, as a new user namespace does.
    pub capabilities: Option<u64>,
    /// The hard limits of the caller by their names in docker (`nofile`), which only CAP_SYS_RESOURCE lets one raise;
    /// `u64::MAX` is none.
    pub limits: BTreeMap<String, u64>,
    /// For the rootless form: the ids of its user namespace. `None` when the container is started inside of one that is
    /// there already, and of which nothing is known.
    pub mappings: Option<IdMappings>,
    /// For the rootless form: whether the container is started inside of a user namespace, with these mappings, that is
    /// there already.
    pub inside_user_namespace: bool,
    /// For the rootless form: the cgroup controllers that the caller may use (`cpuset`, `memory`, `pids`).
    pub delegated: BTreeSet<String>,
}

impl Default for Host {
    /// A host of which nothing is known, with the root filesystem at `rootfs` in the bundle.
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
