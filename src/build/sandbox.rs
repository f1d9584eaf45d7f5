//! The sandbox of steps.

use std::sync::{Arc, Mutex, PoisonError};

use ociforge_manifests::ChainId;

use super::secrets::Secrets;
use crate::rootfs::writable::WritableRootfs;
use ociforge_sandbox::Entered;

/// The sandbox of steps: namespaces, secrets, and the copy of the previous step.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespaces of this process.
    pub entered: Arc<Entered>,
    /// The secrets of the command line.
    pub secrets: Secrets,
    copy: Mutex<Option<(Option<ChainId>, WritableRootfs)>>,
}

impl Sandbox {
    /// Steps run in these namespaces.
    #[must_use]
    pub fn new(entered: Arc<Entered>, secrets: Secrets) -> Self {
        Self { entered, secrets, copy: Mutex::default() }
    }

    /// Keeps the copy of a step as the root filesystem of the next step. `chain` is the chain id with the step's layer.
    pub(super) fn put(&self, chain: Option<ChainId>, rootfs: WritableRootfs) {
        *self.copy.lock().unwrap_or_else(PoisonError::into_inner) = Some((chain, rootfs));
    }

    /// Takes the kept copy if its chain id is `chain`, and removes any other.
    pub(super) fn take(&self, chain: Option<&ChainId>) -> Option<WritableRootfs> {
        let kept = self.copy.lock().unwrap_or_else(PoisonError::into_inner).take();
        kept.filter(|(kept, _)| kept.as_ref() == chain).map(|(_, rootfs)| rootfs)
    }
}
