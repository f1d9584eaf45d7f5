//! The Container Device Interface, up to version 1.1.0: files in which vendors describe what a container needs to have a
//! device, and how that is put into a runtime spec.
//!
//! A [`Registry`] is loaded from the files' bytes, resolves names such as `nvidia.com/gpu=0` to [`Edits`], and these are
//! applied in the order that CDI's own library has. A file that makes no sense is left out and told, as there.

mod apply;
mod coerce;
mod document;
mod lacks;
mod name;
mod parse;
mod registry;
mod unresolved;
mod validate;
mod version;

pub(crate) use apply::{Container, apply};
pub use apply::{DeviceFacts, NodeKind};
pub use lacks::{Lack, Part, REGENERATE, Stale};
pub(crate) use name::Name;
pub use parse::{CdiFault, MAX_FILE_SIZE};
pub use registry::{CdiFile, Described, Edits, LeftOut, Registry};

/// Why the devices that were asked for don't get into a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CdiError {
    /// A text that is no device's name.
    #[error("{0:?} is not the name of a CDI device")]
    Name(String),
    /// Devices that no file describes.
    #[error("unresolvable CDI devices {}", names.join(", "))]
    Unresolvable {
        /// Their names, in the order of the request.
        names: Vec<String>,
        /// What is known instead.
        known: String,
    },
    /// A device node that is not on the host, or whose numbers can't be told.
    #[error("the CDI device needs the device node {path:?}, which {why}")]
    Node {
        /// Path on the host.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Files that the host has not.
    #[error("{0}")]
    Stale(Box<Stale>),
}

impl CdiError {
    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Name(text) if text.starts_with('/') => {
                "devices are named VENDOR/CLASS=NAME, such as nvidia.com/gpu=0; for a node of the host write a CDI file"
                    .into()
            }
            Self::Name(_) => "write VENDOR/CLASS=NAME, such as nvidia.com/gpu=0".into(),
            Self::Unresolvable { known, .. } => known.clone(),
            Self::Node { .. } => format!("load the driver, or make the CDI file anew: {REGENERATE}"),
            Self::Stale(stale) => stale.remedy(),
        })
    }
}

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod tests;
