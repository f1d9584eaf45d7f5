//! `docker-archive:FILE[:NAME|:@INDEX]`: archives of `docker save` and `docker load`. They have no manifests, so a
//! target holds the image for one platform and no referrers.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{ArchivedImage, Image, ImageName, Reference};

use super::source::read_image;
use super::{BuiltImage, ImageToCopy, OpenedImage, Transport, open_file};
use crate::content::{ContentError, Source, read_document};
use crate::error::Failure;
use crate::progress::Reporter;
use crate::registry::Client;
use crate::store::{DockerArchive, write_docker_archive};
use crate::transfer::{Copied, Moved};

pub(super) struct DockerArchiveTransport<'a> {
    pub(super) name: &'a ImageName,
    pub(super) file: &'a Path,
    pub(super) image: Option<&'a ArchivedImage>,
}

impl DockerArchiveTransport<'_> {
    /// Writes the archive from the source of the layers, and returns the bytes of the layers.
    async fn write_image(
        &self,
        source: &dyn Source,
        image: &Image,
        names: &[Reference],
        reporter: &dyn Reporter,
        kind: &str,
    ) -> Result<u64, Failure> {
        let size = image.manifest.layers.iter().map(|layer| layer.size).sum();
        let task = reporter.task(&format!("{kind} {}", self.file.display()), Some(size));
        write_docker_archive(source, image, names, self.file, &*task).await?;
        task.done("written");
        Ok(size)
    }

    fn one_platform(&self) -> Failure {
        Failure::new(format!("docker-archive:{} can hold the image of one platform only", self.file.display()))
            .hint("choose one with --platform, or write oci-archive:FILE")
            .usage()
    }
}

#[async_trait]
impl Transport for DockerArchiveTransport<'_> {
    async fn open(&self, _: &Client) -> Result<OpenedImage, ContentError> {
        let (file, image) = (self.file.to_owned(), self.image.cloned());
        let image = open_file(self.name, move || DockerArchive::open(file)?.image(image.as_ref())).await?;
        let descriptor = image.descriptor().clone();
        Ok(OpenedImage { bytes: read_document(&image, &descriptor).await?, descriptor, source: Arc::new(image) })
    }

    /// Copies the image for the requested platform, or for this machine.
    async fn copy(&self, image: &ImageToCopy<'_>) -> Result<Copied, Failure> {
        if let Some(ArchivedImage::At(_)) = self.image {
            let failure = Failure::new("a docker-archive destination takes an image name, not a position");
            return Err(failure.usage());
        }
        let platform = match image.platforms {
            [] => None,
            [platform] => Some(platform),
            _ => return Err(Failure::new("a docker archive holds one platform").hint("choose one").usage()),
        };
        let names: Vec<Reference> = self.full_name().or_else(|| image.full_name()).into_iter().collect();
        let ImageToCopy { from, here, reporter, .. } = image;
        let image = from.image_or_only(platform, here).await?;
        let uploaded = self.write_image(&*from.source, &image, &names, *reporter, "docker archive").await?;
        let root = GraphNode::Manifest(Box::new(image.manifest)).descriptor();
        Ok(Copied { documents: vec![root.clone()], root, moved: Moved { uploaded, ..Moved::default() }, referrers: 0 })
    }

    async fn write(&self, image: &BuiltImage<'_>, beside: &[ImageName]) -> Result<Moved, Failure> {
        let BuiltImage { source, node, reporter, .. } = *image;
        let GraphNode::Manifest(manifest) = node else { return Err(self.one_platform()) };
        let image = read_image(source, (**manifest).clone()).await?;
        let image = image.map_err(|error| Failure::new("the image is not valid").caused_by(error))?;
        let others = beside.iter().filter_map(|name| super::of(name).full_name());
        let names: Vec<Reference> = self.full_name().into_iter().chain(others).collect();
        let size = self.write_image(source, &image, &names, reporter, "archive").await?;
        let streamed = manifest.layers.iter().filter(|layer| source.repository(layer).is_some());
        let streamed = streamed.map(|layer| layer.size).sum();
        Ok(Moved { uploaded: size - streamed, streamed, documents: 1, ..Moved::default() })
    }

    fn tag(&self) -> Option<&str> {
        match self.image {
            Some(ArchivedImage::Named(name)) => name.tag(),
            _ => None,
        }
    }

    fn full_name(&self) -> Option<Reference> {
        match self.image {
            Some(ArchivedImage::Named(name)) => Some(name.clone()),
            _ => None,
        }
    }

    fn group(&self) -> Option<ImageName> {
        Some(ImageName::DockerArchive { file: self.file.to_owned(), image: None })
    }

    fn archive(&self) -> Option<&Path> {
        Some(self.file)
    }

    fn named(&self, names: &[Reference]) -> Vec<ImageName> {
        let named = |name: &Reference| ImageName::DockerArchive {
            file: self.file.to_owned(),
            image: Some(ArchivedImage::Named(name.clone())),
        };
        if self.image.is_none() { names.iter().map(named).collect() } else { Vec::new() }
    }

    fn check_output(&self) -> Result<(), &'static str> {
        match self.image {
            Some(ArchivedImage::Named(name)) if name.digest().is_some() => {
                Err("the name of an image in a docker-archive has a tag, not a digest")
            }
            Some(ArchivedImage::At(_)) => Err("a docker-archive destination takes an image name, not a position"),
            _ => Ok(()),
        }
    }

    fn check_platforms(&self, count: usize) -> Result<(), Failure> {
        if count > 1 { Err(self.one_platform()) } else { Ok(()) }
    }

    fn check_conversion(&self) -> Result<(), Failure> {
        let failure = Failure::new("a docker-archive has no manifests to convert to OCI");
        Err(failure.hint("omit `--format oci`, or write oci-archive:FILE").usage())
    }
}
