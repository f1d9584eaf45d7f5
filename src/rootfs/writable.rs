//! Writable root filesystems: an image's layers with an upper directory.
//!
//! The kernel or fuse-overlayfs mounts an overlay of the layers; otherwise the layers are copied. The store has
//! unpacked layers once for each kind of ownership.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ociforge_layers::unpack::{OwnerPolicy, XattrSpace, try_whiteouts};
use ociforge_manifests::Image;

use ociforge_sandbox::overlay::{self, Layers, Method, OverlayError, OverlayMount};
use ociforge_sandbox::{Confinement, Entered, IdMapping};

use super::{Losses, RootfsError, Unpacker};
use crate::error::{Explain, Failure};
use crate::store::{ContainerDirectory, Roots, Store};

/// The name of the root filesystem in its directory.
pub const ROOTFS: &str = "rootfs";

/// A writable root filesystem from an image's layers. Dropping it unmounts it; the caller owns its directory.
#[derive(Debug)]
pub struct WritableRootfs {
    root: PathBuf,
    form: RootfsForm,
    /// Dropped before the directory.
    overlay: Option<OverlayMount>,
    directory: Arc<ContainerDirectory>,
}

/// The kind of a root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootfsForm {
    /// An overlay.
    Overlay {
        /// The layers' directories, **the topmost first**, and an empty one below them.
        lower: Vec<PathBuf>,
        /// The upper directory. It has the owner and mode of the root directory.
        upper: PathBuf,
        /// The namespace of extended attributes in which overlayfs marks opaque directories.
        space: XattrSpace,
        /// Whether fuse-overlayfs mounted it.
        fuse: bool,
    },
    /// One directory with everything.
    Copy,
}

/// An error of creating a root filesystem.
#[derive(Debug, thiserror::Error)]
pub enum WritableRootfsError {
    /// Its layers cannot be unpacked.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The overlay cannot be mounted, although the probe succeeded.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// Its directories cannot be created.
    #[error("cannot write the container's files")]
    Write(#[from] io::Error),
}

impl Explain for WritableRootfsError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Rootfs(error) => error.hint(),
            Self::Overlay(error) => error.hint(),
            Self::Write(_) => None,
        }
    }
}

impl WritableRootfs {
    /// Creates `rootfs` in `directory`, with the directories of an overlay. `unpacker` adds missing layers to the
    /// store's [`roots`], with its ownership. Its reporter receives the reason if no overlay is possible.
    ///
    /// # Errors
    /// When a layer cannot be fetched or unpacked, or files cannot be written.
    pub async fn make(
        entered: &Entered,
        unpacker: &Unpacker<'_>,
        store: &Store,
        image: &Image,
        directory: &Arc<ContainerDirectory>,
    ) -> Result<(Self, Losses), WritableRootfsError> {
        let roots = roots(store, entered, unpacker.owners);
        let root = directory.path().join(ROOTFS);
        let rootfs = |form, overlay| Self { root: root.clone(), form, overlay, directory: directory.clone() };
        // Before anything is unpacked for it.
        if let Err(reason) = try_overlay(entered, roots.space(), directory.path())? {
            unpacker.reporter.warn(&format!(
                "ociforge copies the image instead of mounting it, which takes time and disk space: {reason}"
            ));
            let losses = unpacker.flat(image, directory, ROOTFS).await?;
            return Ok((rootfs(RootfsForm::Copy, None), losses));
        }
        let (mut lower, losses) = unpacker.stack(image, &roots).await?;
        let [upper, work, empty] = ["upper", "work", "empty"].map(|name| directory.path().join(name));
        for new in [&root, &upper, &work, &empty] {
            fs::create_dir(new)?;
        }
        // An image may have no layers, but an overlay needs one.
        fs::set_permissions(&empty, Permissions::from_mode(0o755))?;
        lower.push(empty);
        copy_owner_and_mode(&lower[0], &upper)?;
        let layers = Layers { lower, upper, work, volatile: directory.is_removed() };
        let overlay = overlay::mount(entered, &layers, &root)?;
        let fuse = overlay.method() == Method::Fuse;
        let Layers { lower, upper, .. } = layers;
        let form = RootfsForm::Overlay { lower, upper, space: roots.space(), fuse };
        Ok((rootfs(form, Some(overlay)), losses))
    }

    /// Unmounts it: the changes are in the upper directory. A copy remains.
    pub fn unmount(&mut self) {
        self.overlay = None;
    }

    /// Its absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its parent directory.
    #[must_use]
    pub fn directory(&self) -> &Arc<ContainerDirectory> {
        &self.directory
    }

    /// Its kind.
    #[must_use]
    pub fn form(&self) -> &RootfsForm {
        &self.form
    }
}

/// The store's unpacked layers of the kind that this process makes and can stack, with these owners.
#[must_use]
pub fn roots(store: &Store, entered: &Entered, owners: OwnerPolicy) -> Roots {
    let space = if entered.rootless() { XattrSpace::User } else { XattrSpace::Trusted };
    store.roots(kind(entered, owners), space)
}

/// As [`roots`], if the layers can be stacked there; `None` if steps need a copy.
#[must_use]
pub(crate) fn stacked_roots(store: &Store, entered: &Entered, owners: OwnerPolicy) -> Option<Roots> {
    let roots = roots(store, entered, owners);
    let scratch = store.scratch().ok()?;
    matches!(try_overlay(entered, roots.space(), &scratch), Ok(Ok(()))).then_some(roots)
}

/// The kind of files that this process makes with these owners: those of different kinds cannot be mixed.
#[must_use]
pub fn kind(entered: &Entered, owners: OwnerPolicy) -> &'static str {
    match (entered.ids(), owners) {
        (IdMapping::All, _) => "all",
        // The same ids on disk as root's, but not the same whiteouts.
        (IdMapping::Ranges, _) if entered.shares_ids() => "shared",
        (IdMapping::Ranges, _) => "ranges",
        (IdMapping::OneId, OwnerPolicy::Remembered) => "remembered",
        (IdMapping::OneId, _) => "one",
    }
}

/// The ownership in the root filesystem of a step: ownership that the system cannot set is recorded.
#[must_use]
pub fn owners(entered: &Entered) -> OwnerPolicy {
    match (entered.ids(), entered.confinement()) {
        (IdMapping::All, Confinement::Namespaces) => OwnerPolicy::Kept,
        // Not every container's root may make devices.
        (IdMapping::All, Confinement::Chroot) | (IdMapping::Ranges, _) => OwnerPolicy::KeptWherePossible,
        (IdMapping::OneId, _) => OwnerPolicy::Remembered,
    }
}

/// Gives `directory` the owner and mode of `model`: the root of an overlay has those of the upper directory.
fn copy_owner_and_mode(model: &Path, directory: &Path) -> io::Result<()> {
    let model = fs::metadata(model)?;
    std::os::unix::fs::chown(directory, Some(model.uid()), Some(model.gid()))?;
    fs::set_permissions(directory, Permissions::from_mode(model.mode() & 0o7777))
}

/// Probes an empty overlay at the place of the root filesystem, and the whiteouts of its layers. The inner error is the
/// reason of a failed probe.
fn try_overlay(entered: &Entered, space: XattrSpace, directory: &Path) -> io::Result<Result<(), String>> {
    if entered.confinement() == Confinement::Chroot {
        return Ok(Err("mounts are not permitted here".into()));
    }
    let place = tempfile::tempdir_in(directory)?;
    let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|name| place.path().join(name));
    for new in [&lower, &upper, &work, &target] {
        fs::create_dir(new)?;
    }
    if let Err(error) = try_whiteouts(&lower, space) {
        return Ok(Err(format!("the store cannot hold whiteouts: {error}")));
    }
    let layers = Layers { lower: vec![lower], upper, work, volatile: false };
    match overlay::mount(entered, &layers, &target) {
        Ok(_) => Ok(Ok(())),
        Err(OverlayError::Directory { source, .. }) => Err(source),
        Err(refused) => {
            let Failure { message, causes, .. } = refused.into();
            Ok(Err(format!("{message}: {}", causes.join("; "))))
        }
    }
}
