//! Why a CDI file is skipped.

/// The largest file that is read, in bytes. NVIDIA's are below 200 KiB.
pub const MAX_FILE_SIZE: usize = 4 << 20;

/// Why a file is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CdiFault {
    /// The system did not give it away.
    #[error("cannot read it: {0}")]
    Unreadable(String),
    /// Too many bytes.
    #[error("it is larger than {} MiB", MAX_FILE_SIZE >> 20)]
    TooLarge,
    /// Not JSON, not YAML, or other fields than CDI has.
    #[error("{0}")]
    Syntax(String),
    /// A version that nobody knows.
    #[error("its cdiVersion {0:?} is not supported")]
    Version(String),
    /// A version that did not have what the file uses.
    #[error("its cdiVersion is {declared}, and {feature} needs {needed}")]
    TooOld {
        /// The file's version.
        declared: String,
        /// What it uses.
        feature: &'static str,
        /// The version that it came with.
        needed: &'static str,
    },
    /// A value that its field cannot have.
    #[error("{what} {text:?} {why}")]
    Value {
        /// The field.
        what: &'static str,
        /// The value.
        text: String,
        /// The fault.
        why: &'static str,
    },
    /// No device.
    #[error("it has no devices")]
    NoDevices,
    /// The same device again.
    #[error("it has the device {0:?} twice")]
    Twice(String),
    /// A device that changes nothing.
    #[error("its device {0:?} has no edits")]
    NoEdits(String),
}
