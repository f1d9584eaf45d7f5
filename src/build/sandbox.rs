//! The sandbox of steps.

use std::sync::{Arc, Mutex, PoisonError};

use ociforge_manifests::ChainId;

use super::secrets::Secrets;
use crate::rootfs::stage::Stage;
use ociforge_sandbox::Entered;

/// The sandbox of steps: namespaces, secrets, and the copy of the previous step.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespaces of this process.
    pub entered: Arc<Entered>,
    /// The secrets of the command line.
    pub secrets: Secrets,
    copy: Mutex<Option<(Option<ChainId>, Stage)>>,
}

impl Sandbox {
    /// Steps run in these namespaces.
    #[must_use]
    pub fn new(entered: Arc<Entered>, secrets: Secrets) -> Self {
        Self { entered, secrets, copy: Mutex::default() }
    }

    /// Keeps the copy of a step as the root filesystem of the next step. `chain` is the chain id with the step's layer.
    pub(super) fn put(&self, chain: Option<ChainId>, stage: Stage) {
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain, stage));
    }

    /// Takes the kept copy if its chain id is `chain`, and removes any other.
    pub(super) fn take(&self, chain: Option<&ChainId>) -> Option<Stage> {
        let kept = self.copy.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.filter(|(kept, _)| kept.as_ref() == chain).map(|(_, stage)| stage)
    }
}
