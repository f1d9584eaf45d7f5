//! Faults of CDI files.

/// Maximum size of a file in bytes. NVIDIA's are below 200 KiB.
pub const MAX_FILE_SIZE: usize = 4 << 20;

/// Why a file is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CdiFault {
    /// The file cannot be read.
    #[error("cannot read it: {0}")]
    Unreadable(String),
    /// The file is too large.
    #[error("it is larger than {} MiB", MAX_FILE_SIZE >> 20)]
    TooLarge,
    /// Neither JSON nor YAML, or unknown fields.
    #[error("{0}")]
    Syntax(String),
    /// An unknown version.
    #[error("its cdiVersion {0:?} is not supported")]
    Version(String),
    /// A version that does not have a used feature.
    #[error("its cdiVersion is {declared}, and {feature} needs {needed}")]
    TooOld {
        /// The file's version.
        declared: String,
        /// The feature.
        feature: &'static str,
        /// The version that introduced it.
        needed: &'static str,
    },
    /// An invalid value of a field.
    #[error("{what} {text:?} {why}")]
    Value {
        /// The field.
        what: &'static str,
        /// The value.
        text: String,
        /// The fault.
        why: &'static str,
    },
    /// No devices.
    #[error("it has no devices")]
    NoDevices,
    /// A device that occurs twice.
    #[error("it has the device {0:?} twice")]
    Twice(String),
    /// A device without edits.
    #[error("its device {0:?} has no edits")]
    NoEdits(String),
}
