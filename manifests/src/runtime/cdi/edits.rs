//! The edits of devices for a container.

use super::document::ContainerEdits;

/// The edits of the requested devices, in order: those of each file once, before those of its devices.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    pub(super) edits: ContainerEdits,
    /// The files of these edits.
    pub(super) files: Vec<String>,
}
