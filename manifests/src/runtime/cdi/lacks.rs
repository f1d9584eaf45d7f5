//! The host resources of edits, the missing ones of them, and the driver for which the edits were made.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::{DeviceFacts, usable};
use super::document::ContainerEdits;
use super::edits::Edits;
use super::error::CdiError;
use super::stale::{HostResource, MissingResource, Stale};
use crate::runtime::driver::DriverVersion;

/// The oldest driver branch for which CDI files are made.
const OLDEST_BRANCH: u64 = 100;

impl Edits {
    /// Checks that the host's device nodes are suitable.
    ///
    /// # Errors
    /// When one is missing, or is not a device.
    pub(crate) fn check_nodes(&self, nodes: &BTreeMap<String, DeviceFacts>, rootless: bool) -> Result<(), CdiError> {
        self.edits.device_nodes.iter().try_for_each(|node| {
            usable(node, nodes, rootless).map_err(|why| CdiError::Node { path: node.host_path().to_owned(), why })
        })
    }

    /// The mismatch between the edits and the host: `nodes` are its device nodes, and `absent` has the faults of the
    /// files in [`CdiRegistry::sources`](super::CdiRegistry::sources).
    #[must_use]
    pub fn stale(
        &self,
        nodes: &BTreeMap<String, DeviceFacts>,
        absent: &BTreeMap<String, String>,
        driver: Option<&DriverVersion>,
        rootless: bool,
    ) -> Option<Stale> {
        let of_nodes = self.edits.device_nodes.iter().filter_map(|node| {
            let why = usable(node, nodes, rootless).err()?;
            Some(MissingResource { part: HostResource::Node, path: node.host_path().to_owned(), why: why.to_owned() })
        });
        let of_files = sources(&self.edits).filter_map(|(part, path)| {
            let why = absent.get(path)?.clone();
            Some(MissingResource { part, path: path.to_owned(), why })
        });
        let mut seen = BTreeSet::new();
        let lacks: Vec<MissingResource> =
            of_nodes.chain(of_files).filter(|lack| seen.insert(lack.path.clone())).collect();
        let made_for = driver_of(&self.edits);
        let drivers = made_for.zip(driver.cloned()).filter(|(made_for, loaded)| made_for.number() != loaded.number());
        let stale = Stale { files: self.files.clone(), lacks, drivers };
        (!stale.lacks.is_empty() || stale.drivers.is_some()).then_some(stale)
    }
}

/// The host files that edits mount or run, with their kinds.
pub(super) fn sources(edits: &ContainerEdits) -> impl Iterator<Item = (HostResource, &str)> {
    let mounts = edits.mounts.iter().filter(|mount| mount.is_bind());
    let mounts = mounts.map(|mount| (HostResource::File, mount.host_path.as_str()));
    mounts.chain(edits.hooks.iter().map(|hook| (HostResource::Hook, hook.path.as_str())))
}

/// The version in the names of the driver's libraries, or in the arguments of the toolkit's hook.
fn driver_of(edits: &ContainerEdits) -> Option<DriverVersion> {
    let arguments = edits.hooks.iter().flat_map(|hook| &hook.args);
    let stated = arguments.filter_map(|argument| argument.strip_prefix("--host-driver-version="));
    let names = edits.mounts.iter().filter_map(|mount| mount.host_path.rsplit('/').next());
    let libraries =
        names.filter_map(|name| ["libcuda.so.", "libnvidia-ml.so."].iter().find_map(|so| name.strip_prefix(so)));
    // These names also have versions of the interface, as in libcuda.so.1 and Tegra's libcuda.so.1.1.
    let versions = stated.chain(libraries).filter_map(|version| version.parse::<DriverVersion>().ok());
    versions.into_iter().find(|version| version.branch() >= OLDEST_BRANCH)
}
