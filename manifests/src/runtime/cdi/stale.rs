//! CDI files that do not match the host.
//!
//! NVIDIA's CDI files contain the driver's libraries by version, and must be generated again when it changes.

use std::fmt;

use crate::runtime::driver::DriverVersion;

/// The commands that generate NVIDIA's CDI file.
pub const REGENERATE: &str = "`systemctl restart nvidia-cdi-refresh.service` (toolkit 1.18 and later; it writes \
                              /var/run/cdi/nvidia.yaml) or `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`";

/// The kind of a host resource of edits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostResource {
    /// A device node.
    Node,
    /// A mounted file or directory.
    File,
    /// A hook program.
    Hook,
}

impl fmt::Display for HostResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "the device node",
            Self::File => "the file",
            Self::Hook => "the hook",
        })
    }
}

/// A resource of edits that is missing on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingResource {
    /// Its kind.
    pub part: HostResource,
    /// Path on the host.
    pub path: String,
    /// The fault.
    pub why: String,
}

impl fmt::Display for MissingResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.part, self.path, self.why)
    }
}

/// CDI files that do not match the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The files, at least one.
    pub files: Vec<String>,
    /// The missing resources.
    pub lacks: Vec<MissingResource>,
    /// The driver for which they were made and the loaded driver, if these differ.
    pub drivers: Option<(DriverVersion, DriverVersion)>,
}

impl Stale {
    /// Whether a newer driver is installed and the older one still loaded, which requires a reboot and not a new CDI
    /// file.
    #[must_use]
    pub fn wants_reboot(&self) -> bool {
        self.lacks.is_empty()
            && self.drivers.as_ref().is_some_and(|(made_for, loaded)| made_for.number() > loaded.number())
    }

    /// The hint.
    #[must_use]
    pub fn remedy(&self) -> String {
        if self.wants_reboot() {
            "restart the machine, or load the driver again, to use the installed driver".into()
        } else {
            format!("create the CDI file again: {REGENERATE}")
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
            write!(f, "{link}it is for driver {made_for}, and {loaded} is loaded")?;
        }
        Ok(())
    }
}
