//! Facts about this machine. Facts that cannot be determined count as absent; there are no errors.

mod cgroups;
mod credentials;
mod gpus;
mod ids;
mod machine;
mod programs;
mod storage;

use std::path::{Path, PathBuf};

pub use cgroups::{Cgroups, Hierarchy};
pub use credentials::{AuthFileStatus, AuthState};
pub use gpus::{Gpus, Wsl};
pub use ids::{Allotment, Mapper, SubordinateIds};
pub use machine::{Kernel, LinuxDistribution, Machine};
pub use programs::{OciRuntime, Program, Programs};
pub use storage::{OverlaySupport, StoreFacts};

use ociforge_sandbox::Limits;
use ociforge_sandbox::probe::{NamespaceKind, NamespaceProbe, probe_namespaces};
use ociforge_sandbox::step_probe::{StepProbe, probe_step};

/// The facts of a machine.
#[derive(Debug, Clone, Default)]
pub struct MachineFacts {
    /// The machine and the user.
    pub machine: Machine,
    /// The system's settings of user namespaces.
    pub limits: Limits,
    /// The result of the attempt to create a user namespace.
    pub user_namespace: NamespaceProbe,
    /// The result of the same attempt as root without a user namespace; only root tries it.
    pub as_root: NamespaceProbe,
    /// The isolation that steps of a build get.
    pub steps: StepProbe,
    /// Subordinate ids.
    pub ids: SubordinateIds,
    /// The available overlay filesystems.
    pub overlay: OverlaySupport,
    /// Control groups.
    pub cgroups: Cgroups,
    /// The programs that ociforge calls.
    pub programs: Programs,
    /// GPUs and the ways to get them into containers.
    pub gpus: Gpus,
    /// The store.
    pub store: StoreFacts,
    /// Files with credentials for registries.
    pub credentials: Vec<AuthFileStatus>,
}

/// Paths that the checks examine.
#[derive(Debug, Clone)]
pub struct DoctorPaths {
    /// The store, which may not exist.
    pub store: PathBuf,
    /// The credential files.
    pub credentials: Vec<PathBuf>,
}

/// Examines this machine. Probes run in child processes and leave no files.
#[must_use]
pub fn gather(places: &DoctorPaths) -> MachineFacts {
    let machine = Machine::gather();
    let store = StoreFacts::gather(&places.store);
    let scratch = store.existing.as_deref().filter(|_| store.writable).unwrap_or(Path::new("/tmp"));
    MachineFacts {
        limits: Limits::read(),
        user_namespace: probe_namespaces(scratch, NamespaceKind::User),
        as_root: if machine.is_root() {
            probe_namespaces(scratch, NamespaceKind::Root)
        } else {
            NamespaceProbe::default()
        },
        steps: probe_step(),
        ids: SubordinateIds::gather(&machine),
        overlay: OverlaySupport::gather(),
        cgroups: Cgroups::gather(&machine),
        programs: Programs::gather(),
        gpus: Gpus::gather(),
        credentials: places.credentials.iter().map(|path| AuthFileStatus::gather(path)).collect(),
        store,
        machine,
    }
}

/// The trimmed text of a file.
fn text(path: impl AsRef<Path>) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}
