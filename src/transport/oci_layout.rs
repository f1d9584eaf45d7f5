//! `oci:DIR[:TAG]`: OCI layouts, with the functions that archives of layouts share.

use std::io;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::reference::EntryName;
use ociforge_manifests::{Descriptor, ImageName};

use super::{BuiltImage, ImageToCopy, KnownElsewhere, MultiImageDestination, OpenedImage, Transport};
use crate::content::{Cause, ContentError, Named, Target, read_document};
use crate::error::Failure;
use crate::registry::Client;
use crate::store::{Hold, Indexed, Layout, Names};
use crate::transfer::{Copied, Moved};

pub(super) struct LayoutTransport<'a> {
    pub(super) name: &'a ImageName,
    pub(super) directory: &'a Path,
    pub(super) tag: Option<&'a str>,
}

impl LayoutTransport<'_> {
    /// The layout for one image, protected from garbage collection.
    fn create(&self) -> Result<(Layout, Hold), Failure> {
        let cannot = |what: &str, error: io::Error| {
            Failure::new(format!("cannot {what} {}", self.directory.display())).caused_by(error)
        };
        let layout = Layout::create(self.directory).map_err(|error| cannot("open", error))?;
        let hold = Hold::on(&layout).map_err(|error| cannot("write to", error))?;
        Ok((layout, hold))
    }
}

#[async_trait]
impl Transport for LayoutTransport<'_> {
    async fn open(&self, _: &Client) -> Result<OpenedImage, ContentError> {
        let cannot_open = |cause: Cause| cause.of(format!("open {}", self.name));
        let layout = Layout::open(self.directory).map_err(|error| cannot_open(no_layout(error)))?;
        let entry = layout.find(self.tag).map_err(cannot_open)?;
        open_entry(Arc::new(layout), entry, self.tag).await
    }

    async fn copy(&self, image: &ImageToCopy<'_>) -> Result<Copied, Failure> {
        let (layout, _hold) = self.create()?;
        copy_entry(image, &layout, self.tag).await
    }

    async fn write(&self, image: &BuiltImage<'_>, _: &[ImageName]) -> Result<Moved, Failure> {
        let (layout, _hold) = self.create()?;
        image.copy_to(&layout, &[self.tag.unwrap_or("latest").to_owned()]).await
    }

    fn tag(&self) -> Option<&str> {
        self.tag
    }

    fn is_layout(&self) -> bool {
        true
    }

    fn names(&self) -> Result<Names, ContentError> {
        let layout = Layout::open(self.directory);
        Names::new(Arc::new(layout.map_err(|error| cannot_open(self.directory, error))?))
    }

    fn multi_image_destination(&self) -> Result<Box<dyn MultiImageDestination>, ContentError> {
        let layout = Layout::open(self.directory).ok().map(Arc::new);
        Ok(Box::new(LayoutDestination { directory: self.directory.to_owned(), layout, hold: None }))
    }
}

/// A layout as a destination, which may not exist yet.
struct LayoutDestination {
    directory: PathBuf,
    layout: Option<Arc<Layout>>,
    hold: Option<Hold>,
}

#[async_trait]
impl MultiImageDestination for LayoutDestination {
    async fn begin(&mut self, _: KnownElsewhere) -> Result<(), ContentError> {
        let made = Layout::create(&*self.directory).and_then(|layout| Ok((Hold::on(&layout)?, layout)));
        let (hold, layout) = made.map_err(|error| cannot_open(&self.directory, error))?;
        (self.hold, self.layout) = (Some(hold), Some(Arc::new(layout)));
        Ok(())
    }

    fn target(&self) -> Option<Arc<dyn Target>> {
        self.layout.clone().map(|layout| layout as Arc<dyn Target>)
    }

    fn names(&self) -> Result<Option<Names>, ContentError> {
        self.layout.clone().map(|layout| Names::new(layout)).transpose()
    }
}

fn cannot_open(directory: &Path, error: io::Error) -> ContentError {
    Cause::Io(error).of(format!("open {}", directory.display()))
}

/// The error of opening a layout.
fn no_layout(error: io::Error) -> Cause {
    if error.kind() != io::ErrorKind::NotFound {
        return error.into();
    }
    let hint = "name a directory that `ociforge build -o oci:DIRECTORY` or `ociforge copy` has written";
    Cause::Other { message: error.to_string(), hint: Some(hint.into()) }
}

/// Opens the image `tag` of a layout, whose entry is `descriptor`. The source has the names of the same repository, if
/// the name is a full name.
pub(super) async fn open_entry(
    layout: Arc<dyn Indexed>,
    descriptor: Descriptor,
    tag: Option<&str>,
) -> Result<OpenedImage, ContentError> {
    let bytes = read_document(&*layout, &descriptor).await?;
    let names = Names::new(layout)?;
    let repository = tag.and_then(|tag| EntryName::of(tag).repository);
    let source: Arc<dyn Named> = Arc::new(repository.map_or(names.clone(), |repository| names.of(repository)));
    Ok(OpenedImage { descriptor, bytes, source })
}

/// Copies an image to a layout under the name `tag`, or its old tag. If the name is a full name, tags of the same
/// repository get the repository as prefix.
pub(super) async fn copy_entry(
    image: &ImageToCopy<'_>,
    target: &dyn Target,
    tag: Option<&str>,
) -> Result<Copied, Failure> {
    let name = tag.map_or_else(|| image.tag(), str::to_owned);
    let repository = EntryName::of(&name).repository.map_or_else(String::new, |repository| format!("{repository}:"));
    image.copy_to(target, from_ref(&name), &repository).await
}
