//! Errors of the injection of CDI devices.

use super::stale::{REGENERATE, Stale};

/// Why the requested devices cannot be injected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CdiError {
    /// A text that is not a device name.
    #[error("{0:?} is not the name of a CDI device")]
    Name(String),
    /// Devices that no file describes.
    #[error("unresolvable CDI devices {}", names.join(", "))]
    Unresolvable {
        /// Their names, in the order of the request.
        names: Vec<String>,
        /// The known alternatives.
        known: String,
    },
    /// A device node that is missing on the host, or has unknown numbers.
    #[error("the CDI device needs the device node {path:?}, which {why}")]
    Node {
        /// Path on the host.
        path: String,
        /// The fault.
        why: &'static str,
    },
    /// Files that are missing on the host.
    #[error("{0}")]
    Stale(Box<Stale>),
}

impl CdiError {
    /// The hint.
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
