//! Transports (containers-transports(5)): how the image that a name stands for is opened as a source, and written as a
//! target. Each has a module of its own, and [`of`] is the one place that knows them all.

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

/// The transport of `name`, with what else the name says.
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

/// A document that a name leads to, and where what it points to can be had.
pub struct OpenedImage {
    /// Of the manifest or index.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where the rest is, and what else has a name there.
    pub source: Arc<dyn Named>,
}

/// What can be done with a name of one transport.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Finds the document that the name leads to.
    async fn open(&self, client: &Client) -> Result<OpenedImage, ContentError>;

    /// Where the blobs of the image are. A registry is not asked yet.
    async fn blobs(&self, client: &Client) -> Result<Arc<dyn Source>, ContentError> {
        Ok(self.open(client).await?.source)
    }

    /// Copies an image to this name.
    async fn copy(&self, image: &ImageToCopy<'_>) -> Result<Copied, Failure>;

    /// Writes an image that was built to this name and those `beside` it, which are of the same [`Self::group`].
    async fn write(&self, image: &BuiltImage<'_>, beside: &[ImageName]) -> Result<Moved, Failure>;

    /// The tag of the image; of a layout, the whole of what it is called there.
    fn tag(&self) -> Option<&str>;

    /// The full name of the image, if it has one: with registry, repository and tag, and without a digest.
    fn full_name(&self) -> Option<Reference> {
        let tag = self.tag()?;
        match tag.parse() {
            Ok(ImageName::Registry(full)) if full.digest().is_none() && full.whole() == tag => Some(full),
            _ => None,
        }
    }

    /// What stands for all names that are written at once with this one; nothing where it is written for itself.
    fn group(&self) -> Option<ImageName> {
        None
    }

    /// The file that is read, or replaced, as a whole.
    fn archive(&self) -> Option<&Path> {
        None
    }

    /// Whether the image is in an OCI layout, in a directory or a file: that can hold many, under their full names.
    fn is_layout(&self) -> bool {
        false
    }

    /// The names that an image which is called `names` gets in the place of this one; none where it keeps this one.
    fn named(&self, _names: &[Reference]) -> Vec<ImageName> {
        Vec::new()
    }

    /// Says why an image that is built can't be written to this name, if so.
    fn check_output(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// Fails where an image for so many platforms can't be written.
    fn check_platforms(&self, _count: usize) -> Result<(), Failure> {
        Ok(())
    }

    /// Fails where a target has no manifests that could be turned into OCI's.
    fn check_conversion(&self) -> Result<(), Failure> {
        Ok(())
    }

    /// Opens a [layout](Self::is_layout) with all images in it.
    fn names(&self) -> Result<Names, ContentError> {
        Err(single_image())
    }

    /// The [layout](Self::is_layout) as a target of many images.
    fn multi_image_destination(&self) -> Result<Box<dyn MultiImageDestination>, ContentError> {
        Err(single_image())
    }
}

/// A layout that many images are written to under their full names. Nothing is written before [`Self::begin`].
#[async_trait]
pub trait MultiImageDestination: Send + Sync {
    /// Makes what is written to. A delta leaves out what `has` is true for.
    async fn begin(&mut self, has: KnownElsewhere) -> Result<(), ContentError>;

    /// What is written to; nothing before there is anything.
    fn target(&self) -> Option<Arc<dyn Target>>;

    /// What its names are read from; nothing where none are yet.
    fn names(&self) -> Result<Option<Names>, ContentError>;

    /// How many bytes of what is to be written are there already, for nobody to read.
    fn partial_size(&self) -> u64 {
        0
    }

    /// Lets it appear where it was not written in place.
    async fn finish(&mut self) -> Result<(), ContentError> {
        Ok(())
    }
}

/// Whether a blob need not be written, because who reads the delta has it.
pub type KnownElsewhere = Box<dyn Fn(&Digest) -> bool + Send + Sync>;

fn single_image() -> ContentError {
    let message = "a name of this transport stands for one image".into();
    Cause::Other { message, hint: None }.of("take it for a place of many images")
}

/// Opens the file that `name` leads to, which may have to be decompressed first.
async fn open_file<T: Send + 'static>(
    name: &ImageName,
    open: impl FnOnce() -> Result<T, ContentError> + Send + 'static,
) -> Result<T, ContentError> {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| Cause::Io(error.into()).of(format!("open {name}")))?
}
