//! The Container Device Interface, up to version 1.1.0: files in which vendors describe the edits of a runtime spec for
//! a device.
//!
//! A [`CdiRegistry`] is loaded from the files' bytes and resolves names such as `nvidia.com/gpu=0` to [`Edits`], which
//! are applied in the order of CDI's own library. As there, an invalid file is skipped and reported.

mod apply;
mod coerce;
mod document;
mod edits;
mod error;
mod fault;
mod lacks;
mod name;
mod parse;
mod registry;
mod resolve;
mod stale;
mod validate;
mod version;

pub use apply::{DeviceFacts, DeviceNodeKind};
pub(crate) use apply::{TargetContainer, apply};
pub use edits::Edits;
pub use error::CdiError;
pub use fault::{CdiFault, MAX_FILE_SIZE};
pub use name::GPU_KIND;
pub(crate) use name::Name;
pub use registry::{CdiFile, CdiRegistry, Described, LeftOut};
pub use stale::{HostResource, MissingResource, REGENERATE, Stale};

#[cfg(test)]
mod tests;
