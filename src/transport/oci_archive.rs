//! `oci-archive:FILE[:TAG]`: OCI layouts in tar files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::ImageName;

use super::oci_layout::{copy_entry, open_entry};
use super::{BuiltImage, ImageToCopy, KnownElsewhere, MultiImageDestination, OpenedImage, Transport, open_file};
use crate::content::{Cause, ContentError, Target};
use crate::error::Failure;
use crate::registry::Client;
use crate::store::layout::REF_NAME;
use crate::store::{Archive, ArchiveWriter, Names, write_archive};
use crate::transfer::{Copied, Moved};

pub(super) struct ArchiveTransport<'a> {
    pub(super) name: &'a ImageName,
    pub(super) file: &'a Path,
    pub(super) tag: Option<&'a str>,
}

#[async_trait]
impl Transport for ArchiveTransport<'_> {
    async fn open(&self, _: &Client) -> Result<OpenedImage, ContentError> {
        let file = self.file.to_owned();
        let archive = open_file(self.name, move || Archive::open(file)).await?;
        let entry = archive.find(self.tag).map_err(|cause| cause.of(format!("open {}", self.name)))?;
        open_entry(Arc::new(archive), entry, self.tag).await
    }

    async fn copy(&self, image: &ImageToCopy<'_>) -> Result<Copied, Failure> {
        let archive = ArchiveWriter::create(self.file).await?;
        let copied = copy_entry(image, &archive, self.tag).await?;
        archive.finish().await?;
        Ok(copied)
    }

    /// The archive is written from the store, so missing blobs are copied to the store first.
    async fn write(&self, image: &BuiltImage<'_>, _: &[ImageName]) -> Result<Moved, Failure> {
        let moved = image.copy_to(image.store, &[]).await?;
        let mut entry = image.node.descriptor();
        entry.annotations.insert(REF_NAME.into(), self.tag.unwrap_or("latest").into());
        let size = image.node.children().iter().map(|child| child.size).sum();
        let task = image.reporter.task(&format!("archive {}", self.file.display()), Some(size));
        tokio::task::block_in_place(|| write_archive(image.store, &[entry], self.file, &*task))?;
        task.done("written");
        Ok(moved)
    }

    fn tag(&self) -> Option<&str> {
        self.tag
    }

    fn archive(&self) -> Option<&Path> {
        Some(self.file)
    }

    fn is_layout(&self) -> bool {
        true
    }

    fn names(&self) -> Result<Names, ContentError> {
        Names::new(Arc::new(Archive::open(self.file)?))
    }

    fn multi_image_destination(&self) -> Result<Box<dyn MultiImageDestination>, ContentError> {
        Ok(Box::new(ArchiveDestination { file: self.file.to_owned(), writer: None, written: None }))
    }
}

/// An archive as a destination: its writer, and its names when it is finished.
struct ArchiveDestination {
    file: PathBuf,
    writer: Option<Arc<ArchiveWriter>>,
    written: Option<Names>,
}

#[async_trait]
impl MultiImageDestination for ArchiveDestination {
    async fn begin(&mut self, has: KnownElsewhere) -> Result<(), ContentError> {
        self.writer = Some(Arc::new(ArchiveWriter::create(&*self.file).await?.since(has)));
        Ok(())
    }

    fn target(&self) -> Option<Arc<dyn Target>> {
        self.writer.clone().map(|writer| writer as Arc<dyn Target>)
    }

    fn names(&self) -> Result<Option<Names>, ContentError> {
        Ok(self.written.clone())
    }

    /// See [`ArchiveWriter`]: it resumes the partial file of a killed process.
    fn partial_size(&self) -> u64 {
        fs::metadata(ArchiveWriter::partial_path(&self.file)).map_or(0, |metadata| metadata.len())
    }

    async fn finish(&mut self) -> Result<(), ContentError> {
        let Some(writer) = self.writer.take().and_then(Arc::into_inner) else {
            let message = "the archive is still open for writing".into();
            return Err(Cause::Other { message, hint: None }.of(format!("finish {}", self.file.display())));
        };
        writer.finish().await?;
        self.written = Some(Names::new(Arc::new(Archive::open(&*self.file)?))?);
        Ok(())
    }
}
