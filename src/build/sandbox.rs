//! What steps that run something need.

use std::sync::Arc;

use super::secrets::Secrets;
use crate::sandbox::Entered;

/// What steps that run something need.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespaces of this process.
    pub entered: Arc<Entered>,
    /// What the caller lets steps know.
    pub secrets: Secrets,
}
