//! What edits take from the host, what of it the host has not, and which driver they were made for.
//!
//! NVIDIA's CDI files name the driver's libraries by version, and have to be made anew when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::CdiError;
use super::apply::{DeviceFacts, usable};
use super::document::ContainerEdits;
use super::registry::Edits;
use crate::runtime::driver::DriverVersion;

/// No driver that CDI files are made for has a smaller number.
const OLDEST_BRANCH: u64 = 100;

/// How NVIDIA's CDI file is made anew.
pub const REGENERATE: &str = "`systemctl restart nvidia-cdi-refresh.service` (toolkit 1.18 and later; it writes \
                              /var/run/cdi/nvidia.yaml) or `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`";

/// What edits take from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A device node.
    Node,
    /// A file or directory that is mounted.
    File,
    /// A program that is run.
    Hook,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "the device node",
            Self::File => "the file",
            Self::Hook => "the hook",
        })
    }
}

/// Something that edits take from the host and that the host has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What it is for the edits.
    pub part: Part,
    /// Path on the host.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.part, self.path, self.why)
    }
}

/// CDI files that do not fit the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The files, at least one.
    pub files: Vec<String>,
    /// What the host lacks of what they name.
    pub lacks: Vec<Lack>,
    /// The driver that they were made for, where it is not the one that is loaded, and that one.
    pub drivers: Option<(DriverVersion, DriverVersion)>,
}

impl Stale {
    /// Whether a newer driver was installed and the older one is still loaded, which a CDI file can't mend.
    #[must_use]
    pub fn wants_reboot(&self) -> bool {
        self.lacks.is_empty()
            && self.drivers.as_ref().is_some_and(|(made_for, loaded)| made_for.number() > loaded.number())
    }
}

impl Stale {
    /// What the user can do.
    #[must_use]
    pub fn remedy(&self) -> String {
        if self.wants_reboot() {
            "restart the machine, or load the driver anew, so that the installed one is used".into()
        } else {
            format!("make the CDI file anew: {REGENERATE}")
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the CDI file {} does not fit this machine: ", self.files.join(" and "))?;
        let mut link = "";
        if let Some(first) = self.lacks.first() {
            write!(f, "{first}")?;
            match self.lacks.len() - 1 {
                0 => {}
                1 => write!(f, ", and neither is {}", self.lacks[1].path)?,
                more => write!(f, ", and neither are {more} others that it names")?,
            }
            link = "; ";
        }
        if let Some((made_for, loaded)) = &self.drivers {
            write!(f, "{link}it was made for driver {made_for}, and {loaded} is loaded")?;
        }
        Ok(())
    }
}

impl Edits {
    /// Finds out whether the host's device nodes serve.
    ///
    /// # Errors
    /// When one is missing, or is none.
    pub(crate) fn check_nodes(&self, nodes: &BTreeMap<String, DeviceFacts>, rootless: bool) -> Result<(), CdiError> {
        self.edits.device_nodes.iter().try_for_each(|node| {
            usable(node, nodes, rootless).map_err(|why| CdiError::Node { path: node.host_path().to_owned(), why })
        })
    }

    /// What does not fit the host: `nodes` are its device nodes, and `absent` says of the files that
    /// [`Registry::sources`](super::Registry::sources) names what is wrong with them.
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
            Some(Lack { part: Part::Node, path: node.host_path().to_owned(), why: why.to_owned() })
        });
        let of_files = sources(&self.edits).filter_map(|(part, path)| {
            let why = absent.get(path)?.clone();
            Some(Lack { part, path: path.to_owned(), why })
        });
        let mut seen = BTreeSet::new();
        let lacks: Vec<Lack> = of_nodes.chain(of_files).filter(|lack| seen.insert(lack.path.clone())).collect();
        let made_for = driver_of(&self.edits);
        let drivers = made_for.zip(driver.cloned()).filter(|(made_for, loaded)| made_for.number() != loaded.number());
        let stale = Stale { files: self.files.clone(), lacks, drivers };
        (!stale.lacks.is_empty() || stale.drivers.is_some()).then_some(stale)
    }
}

/// The files of the host that edits show in the container or run, and what each is.
pub(super) fn sources(edits: &ContainerEdits) -> impl Iterator<Item = (Part, &str)> {
    let mounts = edits.mounts.iter().filter(|mount| mount.is_bind());
    let mounts = mounts.map(|mount| (Part::File, mount.host_path.as_str()));
    mounts.chain(edits.hooks.iter().map(|hook| (Part::Hook, hook.path.as_str())))
}

/// The version in the names of the driver's libraries, or in the arguments of the toolkit's hook.
fn driver_of(edits: &ContainerEdits) -> Option<DriverVersion> {
    let arguments = edits.hooks.iter().flat_map(|hook| &hook.args);
    let stated = arguments.filter_map(|argument| argument.strip_prefix("--host-driver-version="));
    let names = edits.mounts.iter().filter_map(|mount| mount.host_path.rsplit('/').next());
    let libraries =
        names.filter_map(|name| ["libcuda.so.", "libnvidia-ml.so."].iter().find_map(|so| name.strip_prefix(so)));
    // The interface's version is in these names, too, as in libcuda.so.1 and Tegra's libcuda.so.1.1.
    let versions = stated.chain(libraries).filter_map(|version| version.parse::<DriverVersion>().ok());
    versions.into_iter().find(|version| version.branch() >= OLDEST_BRANCH)
}
