//! Where an image name leads.

use std::io;
use std::sync::Arc;

use ociforge_manifests::graph::{GraphNode, Manifest};
use ociforge_manifests::reference::EntryName;
use ociforge_manifests::{Descriptor, Document, Image, ImageError, ImageName, Platform};

use crate::content::{Cause, ContentError, Named, Source, read_document, select};
use crate::error::Explain;
use crate::registry::Client;
use crate::store::{Archive, DockerArchive, Indexed, Layout, Names};

/// A document that a name leads to, and where what it points to can be had.
#[derive(Clone)]
pub struct Located {
    /// The name, for messages.
    pub name: String,
    /// The manifest or index.
    pub node: GraphNode,
    /// Where the rest is, and what else has a name there.
    pub source: Arc<dyn Named>,
}

/// An image that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// Its documents can't be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// There is none for the platform.
    #[error("{name} has no image for {wanted}")]
    Platform {
        /// The name.
        name: String,
        /// The platform.
        wanted: Platform,
        /// The platforms that there are.
        have: Vec<String>,
    },
    /// Its documents contradict each other.
    #[error("{name} is not a sound image")]
    Image {
        /// The name.
        name: String,
        /// How.
        source: ImageError,
    },
    /// It is no image but another artifact.
    #[error("{name} is not an image but an artifact of the type {kind}")]
    Artifact {
        /// The name.
        name: String,
        /// The artifact's type.
        kind: String,
    },
}

impl Explain for LocateError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Content(error) => error.hint(),
            Self::Platform { have, .. } if !have.is_empty() => {
                Some(format!("it has {}: choose with --platform", have.join(", ")))
            }
            Self::Image { source: ImageError::Document(error), .. } => error.hint().map(Into::into),
            Self::Artifact { name, .. } => Some(format!(
                "`ociforge inspect {name}` shows what it holds, and `ociforge copy` takes it to another place"
            )),
            Self::Platform { .. } | Self::Image { .. } => None,
        }
    }
}

/// Finds the document that `name` leads to.
///
/// # Errors
/// When the place can't be reached or has no such name.
pub async fn locate(name: &ImageName, client: &Client) -> Result<Located, ContentError> {
    let (node, source): (GraphNode, Arc<dyn Named>) = match name {
        ImageName::Registry(reference) => {
            let remote = client.repository(reference);
            let (descriptor, bytes) = remote.resolve().await?;
            (parse(&descriptor, bytes, name)?, Arc::new(remote))
        }
        ImageName::Layout { directory, tag } => {
            let cannot_open = |cause: Cause| cause.of(format!("open {name}"));
            let layout = Layout::open(directory).map_err(|error| cannot_open(no_layout(error)))?;
            let descriptor = layout.find(tag.as_deref()).map_err(cannot_open)?;
            (read(&layout, &descriptor, name).await?, names(Arc::new(layout), tag.as_deref())?)
        }
        ImageName::Archive { file, tag } => {
            let opened = file.clone();
            let archive = blocking(name, move || Archive::open(opened)).await?;
            let descriptor = archive.find(tag.as_deref()).map_err(|cause| cause.of(format!("open {name}")))?;
            (read(&archive, &descriptor, name).await?, names(Arc::new(archive), tag.as_deref())?)
        }
        ImageName::DockerArchive { file, image } => {
            let (file, image) = (file.clone(), image.clone());
            let image = blocking(name, move || DockerArchive::open(file)?.image(image.as_ref())).await?;
            (read(&image, image.descriptor(), name).await?, Arc::new(image))
        }
    };
    Ok(Located { name: name.to_string(), node, source })
}

/// Why there is no layout to open.
fn no_layout(error: io::Error) -> Cause {
    if error.kind() != io::ErrorKind::NotFound {
        return error.into();
    }
    let hint = "name a directory that `ociforge build -o oci:DIRECTORY` or `ociforge copy` has written";
    Cause::Other { message: error.to_string(), hint: Some(hint.into()) }
}

/// Opens an archive, which may have to be decompressed first.
async fn blocking<T: Send + 'static>(
    name: &ImageName,
    open: impl FnOnce() -> Result<T, ContentError> + Send + 'static,
) -> Result<T, ContentError> {
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| Cause::Io(error.into()).of(format!("open {name}")))?
}

/// What is in a layout or an archive beside the image called `name`: a full name says in which repository.
fn names(place: Arc<dyn Indexed>, name: Option<&str>) -> Result<Arc<dyn Named>, ContentError> {
    let names = Names::new(place)?;
    let repository = name.and_then(|name| EntryName::of(name).repository);
    Ok(Arc::new(repository.map_or(names.clone(), |repository| names.of(repository))))
}

async fn read(source: &dyn Source, descriptor: &Descriptor, name: &ImageName) -> Result<GraphNode, ContentError> {
    parse(descriptor, read_document(source, descriptor).await?, name)
}

fn parse(descriptor: &Descriptor, bytes: Vec<u8>, name: &ImageName) -> Result<GraphNode, ContentError> {
    GraphNode::parse(&descriptor.media_type, bytes).map_err(|error| Cause::from(error).of(format!("read {name}")))
}

impl Located {
    /// The image for `platform`: the one there is, or the one that the index names for it.
    ///
    /// # Errors
    /// When there is none for the platform, or it is not a sound image.
    pub async fn image(&self, platform: &Platform) -> Result<Image, LocateError> {
        let manifest = self.manifest(platform).await?;
        if let Some(kind) = manifest.artifact() {
            return Err(LocateError::Artifact { name: self.name.clone(), kind: kind.to_owned() });
        }
        let config = read_document(&*self.source, &manifest.config).await?;
        let unsound = |source: ImageError| LocateError::Image { name: self.name.clone(), source };
        let config = Document::parse(config).map_err(|error| unsound(error.into()))?;
        let image = Image::new(manifest, config).map_err(unsound)?;
        if image.config.platform.serves(platform) {
            Ok(image)
        } else {
            Err(self.no_platform(platform, vec![image.config.platform.to_string()]))
        }
    }

    /// The image for `platform`; where none is asked for that for `usual`, or the only one whatever it is for.
    ///
    /// # Errors
    /// As [`Self::image`].
    pub async fn image_or_only(&self, platform: Option<&Platform>, usual: &Platform) -> Result<Image, LocateError> {
        match (self.image(platform.unwrap_or(usual)).await, &self.node, platform) {
            (Err(LocateError::Platform { have, .. }), GraphNode::Manifest(_), None) => {
                let only = have.first().and_then(|platform| platform.parse().ok());
                self.image(&only.unwrap_or_default()).await
            }
            (image, _, _) => image,
        }
    }

    async fn manifest(&self, platform: &Platform) -> Result<Document<Manifest>, LocateError> {
        match &self.node {
            GraphNode::Manifest(manifest) => Ok((**manifest).clone()),
            GraphNode::Index(index) => match select(&*self.source, index, platform).await? {
                Ok(selected) => Ok(selected.manifest),
                Err(have) => Err(self.no_platform(platform, have)),
            },
        }
    }

    fn no_platform(&self, wanted: &Platform, have: Vec<String>) -> LocateError {
        LocateError::Platform { name: self.name.clone(), wanted: wanted.clone(), have }
    }
}
