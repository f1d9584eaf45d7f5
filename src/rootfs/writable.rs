//! Root filesystems that can be written: an image's layers with what is written on top.
//!
//! The kernel stacks them, or fuse-overlayfs; where neither can, the layers are copied. Layers are unpacked into the
//! store once for each kind of owners that files can have there.

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

/// A writable root filesystem made of an image's layers. It is unmounted when this is dropped; its directory stays for
/// as long as the caller keeps it.
#[derive(Debug)]
pub struct WritableRootfs {
    root: PathBuf,
    form: RootfsForm,
    /// Before the directory.
    overlay: Option<OverlayMount>,
    directory: Arc<ContainerDirectory>,
}

/// How a root filesystem is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootfsForm {
    /// An overlay.
    Overlay {
        /// The layers' directories, **the topmost first**, and an empty one below them.
        lower: Vec<PathBuf>,
        /// What is written goes here. It has the owner and mode of the root directory.
        upper: PathBuf,
        /// The extended attributes in which overlayfs notes opaque directories.
        space: XattrSpace,
        /// Whether fuse-overlayfs mounted it.
        fuse: bool,
    },
    /// One directory with everything.
    Copy,
}

/// A root filesystem that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum WritableRootfsError {
    /// Its layers can't be unpacked.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// They can't be stacked, although an overlay could be mounted just now.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// Its directories can't be made.
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
    /// Makes `rootfs` in `directory`, and what an overlay needs beside it. Layers that are not in the store's
    /// [`roots`] are unpacked there by `unpacker`, with its owners. Its reporter is told why there is no overlay.
    ///
    /// # Errors
    /// When a layer can't be had or unpacked, or files can't be written.
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
            unpacker.reporter.warn(&format!("the image is copied, which takes time and space: {reason}"));
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
        take_after(&lower[0], &upper)?;
        let layers = Layers { lower, upper, work, volatile: directory.is_removed() };
        let overlay = overlay::mount(entered, &layers, &root)?;
        let fuse = overlay.method() == Method::Fuse;
        let Layers { lower, upper, .. } = layers;
        let form = RootfsForm::Overlay { lower, upper, space: roots.space(), fuse };
        Ok((rootfs(form, Some(overlay)), losses))
    }

    /// Unmounts it: what was written is in the upper directory. A copy stays as it is.
    pub fn unmount(&mut self) {
        self.overlay = None;
    }

    /// Where it is: an absolute path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory that it is in.
    #[must_use]
    pub fn directory(&self) -> &Arc<ContainerDirectory> {
        &self.directory
    }

    /// How it is made.
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

/// The kind of files that this process makes with these owners: those of different kinds can't be mixed.
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

/// What becomes of owners in the root filesystem of a step: what the system can't keep is remembered.
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
fn take_after(model: &Path, directory: &Path) -> io::Result<()> {
    let model = fs::metadata(model)?;
    std::os::unix::fs::chown(directory, Some(model.uid()), Some(model.gid()))?;
    fs::set_permissions(directory, Permissions::from_mode(model.mode() & 0o7777))
}

/// Tries to mount an overlay of nothing where the root filesystem will be, and to make what its layers need. The inner
/// error says why that is not possible.
fn try_overlay(entered: &Entered, space: XattrSpace, directory: &Path) -> io::Result<Result<(), String>> {
    if entered.confinement() == Confinement::Chroot {
        return Ok(Err("nothing can be mounted here".into()));
    }
    let place = tempfile::tempdir_in(directory)?;
    let [lower, upper, work, target] = ["lower", "upper", "work", "target"].map(|name| place.path().join(name));
    for new in [&lower, &upper, &work, &target] {
        fs::create_dir(new)?;
    }
    if let Err(error) = try_whiteouts(&lower, space) {
        return Ok(Err(format!("whiteouts can't be kept in the store: {error}")));
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
