//! Why devices do not get into a container.

use super::stale::{REGENERATE, Stale};

/// Why the devices that were asked for do not get into a container.
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
    /// A device node that is not on the host, or whose numbers cannot be told.
    #[error("the CDI device needs the device node {path:?}, which {why}")]
    Node {
        /// Path on the host.
        path: String,
        /// The fault.
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
            Self::Node { .. } => format!("load the driver, or create the CDI file again: {REGENERATE}"),
            Self::Stale(stale) => stale.remedy(),
        })
    }
}
