//! CDI files that do not fit the host.
//!
//! NVIDIA's CDI files name the driver's libraries by version, and have to be made anew when that changes.

use std::fmt;

use crate::runtime::driver::DriverVersion;

/// How NVIDIA's CDI file is made anew.
pub const REGENERATE: &str = "`systemctl restart nvidia-cdi-refresh.service` (toolkit 1.18 and later; it writes \
                              /var/run/cdi/nvidia.yaml) or `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`";

/// What edits take from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostResource {
    /// A device node.
    Node,
    /// A file or directory that is mounted.
    File,
    /// A program that is run.
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

/// Something that edits take from the host and that the host has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingResource {
    /// What it is for the edits.
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

/// CDI files that do not fit the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The files, at least one.
    pub files: Vec<String>,
    /// What the host lacks of what they name.
    pub lacks: Vec<MissingResource>,
    /// The driver that they were made for, where it is not the one that is loaded, and that one.
    pub drivers: Option<(DriverVersion, DriverVersion)>,
}

impl Stale {
    /// Whether a newer driver was installed and the older one is still loaded, which a CDI file cannot mend.
    #[must_use]
    pub fn wants_reboot(&self) -> bool {
        self.lacks.is_empty()
            && self.drivers.as_ref().is_some_and(|(made_for, loaded)| made_for.number() > loaded.number())
    }

    /// What the user can do.
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
