//! The Container Device Interface, up to version 1.1.0: files in which vendors describe what a container needs to have a
//! device, and how that is put into a runtime spec.
//!
//! A [`CdiRegistry`] is loaded from the files' bytes, resolves names such as `nvidia.com/gpu=0` to [`Edits`], and these
//! are applied in the order that CDI's own library has. A file that makes no sense is skipped and told, as there.

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
mod apply_tests;
#[cfg(test)]
mod tests;
