//! What devices change in a container.

use super::document::ContainerEdits;

/// The edits of the devices that were asked for, in order: those of each file once, before those of its devices.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    pub(super) edits: ContainerEdits,
    /// The files that they come from.
    pub(super) files: Vec<String>,
}
