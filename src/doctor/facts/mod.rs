//! What there is to know about this machine. What can't be found out counts as not there; there are no errors.

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

/// What was found on a machine.
#[derive(Debug, Clone, Default)]
pub struct MachineFacts {
    /// The machine, and who asks.
    pub machine: Machine,
    /// What the system says about user namespaces.
    pub limits: Limits,
    /// What came of trying to make one.
    pub user_namespace: NamespaceProbe,
    /// What came of trying the same without one; not tried unless by root.
    pub as_root: NamespaceProbe,
    /// What the steps of a build would have.
    pub steps: StepProbe,
    /// The ids that may be mapped into a user namespace.
    pub ids: SubordinateIds,
    /// The means to put layers upon each other.
    pub overlay: OverlaySupport,
    /// Control groups.
    pub cgroups: Cgroups,
    /// The programs that ociforge calls.
    pub programs: Programs,
    /// GPUs and what gets them into containers.
    pub gpus: Gpus,
    /// The store.
    pub store: StoreFacts,
    /// Files with credentials for registries.
    pub credentials: Vec<AuthFileStatus>,
}

/// Where ociforge keeps and finds things.
#[derive(Debug, Clone)]
pub struct DoctorPaths {
    /// The store, whether it is there or not.
    pub store: PathBuf,
    /// The files that credentials are looked up in.
    pub credentials: Vec<PathBuf>,
}

/// Looks at this machine. Tries things in children of this process, and leaves nothing behind.
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
