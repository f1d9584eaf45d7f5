//! Transports (containers-transports(5)): they open the image of a name as a source and write it as a target. Each
//! transport has its own module, and only [`of`] knows all of them.

mod docker_archive;
mod image;
mod oci_archive;
mod oci_layout;
mod registry;
mod same_file;
mod source;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::{Descriptor, Digest, ImageName, Reference};

use crate::content::{Cause, ContentError, Named, Source, Target};
use crate::error::Failure;
use crate::registry::Client;
use crate::store::Names;
use crate::transfer::{Copied, Moved};

pub use image::{BuiltImage, ImageToCopy};
pub use same_file::is_same_file;
pub use source::{ImageSource, ImageSourceError};

/// The transport of `name` with the parts of the name.
#[must_use]
pub fn of(name: &ImageName) -> Box<dyn Transport + '_> {
    match name {
        ImageName::Registry(reference) => Box::new(registry::RegistryTransport { reference }),
        ImageName::Layout { directory, tag } => {
            Box::new(oci_layout::LayoutTransport { name, directory, tag: tag.as_deref() })
        }
        ImageName::Archive { file, tag } => Box::new(oci_archive::ArchiveTransport { name, file, tag: tag.as_deref() }),
        ImageName::DockerArchive { file, image } => {
            Box::new(docker_archive::DockerArchiveTransport { name, file, image: image.as_ref() })
        }
    }
}

/// The document of a name, and the source of its descendants.
pub struct OpenedImage {
    /// The descriptor of the manifest or index.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The source of its descendants and of other names.
    pub source: Arc<dyn Named>,
}

/// The operations on a name of one transport.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Opens the document of the name.
    async fn open(&self, client: &Client) -> Result<OpenedImage, ContentError>;

    /// The source of the image's blobs. It sends no request to a registry yet.
    async fn blobs(&self, client: &Client) -> Result<Arc<dyn Source>, ContentError> {
        Ok(self.open(client).await?.source)
    }

    /// Copies an image to this name.
    async fn copy(&self, image: &ImageToCopy<'_>) -> Result<Copied, Failure>;

    /// Writes a built image to this name and to `beside`, the other names of the same [`Self::group`].
    async fn write(&self, image: &BuiltImage<'_>, beside: &[ImageName]) -> Result<Moved, Failure>;

    /// The tag of the image; in a layout, its complete name there.
    fn tag(&self) -> Option<&str>;

    /// The full name of the image, if it has one: with registry, repository and tag, and without a digest.
    fn full_name(&self) -> Option<Reference> {
        let tag = self.tag()?;
        match tag.parse() {
            Ok(ImageName::Registry(full)) if full.digest().is_none() && full.whole() == tag => Some(full),
            _ => None,
        }
    }

    /// The representative of all names that one write covers; `None` if this name is written alone.
    fn group(&self) -> Option<ImageName> {
        None
    }

    /// The archive file that is read or replaced.
    fn archive(&self) -> Option<&Path> {
        None
    }

    /// Whether the image is in an OCI layout, in a directory or a file, which can hold many images under their full
    /// names.
    fn is_layout(&self) -> bool {
        false
    }

    /// The names of an image called `names` in place of this name; empty if it keeps this name.
    fn named(&self, _names: &[Reference]) -> Vec<ImageName> {
        Vec::new()
    }

    /// The reason why a built image cannot be written to this name, if any.
    fn check_output(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// Fails if the transport cannot write an image for so many platforms.
    fn check_platforms(&self, _count: usize) -> Result<(), Failure> {
        Ok(())
    }

    /// Fails if a target has no manifests to convert to OCI.
    fn check_conversion(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Opens a [layout](Self::is_layout) with all images in it.
    fn names(&self) -> Result<Names, ContentError> {
        Err(single_image())
    }

    /// The [layout](Self::is_layout) as a destination of many images.
    fn multi_image_destination(&self) -> Result<Box<dyn MultiImageDestination>, ContentError> {
        Err(single_image())
    }
}

/// A layout as the destination of many images under their full names. Nothing is written before [`Self::begin`].
#[async_trait]
pub trait MultiImageDestination: Send + Sync {
    /// Creates the target. A delta omits the blobs for which `has` is true.
    async fn begin(&mut self, has: KnownElsewhere) -> Result<(), ContentError>;

    /// The target; `None` before it exists.
    fn target(&self) -> Option<Arc<dyn Target>>;

    /// The names in the layout; `None` before it exists.
    fn names(&self) -> Result<Option<Names>, ContentError>;

    /// The bytes of a partial file from an earlier run.
    fn partial_size(&self) -> u64 {
        0
    }

    /// Publishes a target that was not written in place.
    async fn finish(&mut self) -> Result<(), ContentError> {
        Ok(())
    }
}

/// Whether a blob is omitted because the reader of the delta has it.
pub type KnownElsewhere = Box<dyn Fn(&Digest) -> bool + Send + Sync>;

fn single_image() -> ContentError {
    let message = "a name of this transport stands for one image".into();
    Cause::Other { message, hint: None }.of("use it as a destination of several images")
}

/// Opens the file of `name`, and decompresses it if necessary.
async fn open_file<T: Send + 'static>(
    name: &ImageName,
    open: impl FnOnce() -> Result<T, ContentError> + Send + 'static,
) -> Result<T, ContentError> {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| Cause::Io(error.into()).of(format!("open {name}")))?
}
