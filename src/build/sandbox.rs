//! What steps that run something need.

use std::sync::{Arc, Mutex, PoisonError};

use ociforge_manifests::ChainId;

use super::secrets::Secrets;
use crate::rootfs::stage::Stage;
use ociforge_sandbox::Entered;

/// What steps that run something need.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespaces of this process.
    pub entered: Arc<Entered>,
    /// What the caller lets steps know.
    pub secrets: Secrets,
    copy: Mutex<Option<(Option<ChainId>, Stage)>>,
}

impl Sandbox {
    /// Steps run in these namespaces.
    #[must_use]
    pub fn new(entered: Arc<Entered>, secrets: Secrets) -> Self {
        Self { entered, secrets, copy: Mutex::default() }
    }

    /// Keeps the copy in which a step ran: with its layer it is what the next step begins with. `chain` is that layer's.
    pub(super) fn put(&self, chain: Option<ChainId>, stage: Stage) {
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain, stage));
    }

    /// Takes the copy that was kept, if it is that of `chain`; any other goes away.
    pub(super) fn take(&self, chain: Option<&ChainId>) -> Option<Stage> {
        let kept = self.copy.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.filter(|(kept, _)| kept.as_ref() == chain).map(|(_, stage)| stage)
    }
}
