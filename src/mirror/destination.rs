//! Destinations of a mirror.

use std::path::Path;
use std::sync::Arc;

use ociforge_manifests::{Descriptor, ImageName, Reference};

use super::MirrorLocation;
use crate::content::{Cause, ContentError, Named, Repository, Source, Target};
use crate::registry::{Client, Remote};
use crate::transport::{self, KnownElsewhere, MultiImageDestination};

/// The destination of a mirror. Nothing is written before [`MirrorDestination::begin`].
pub(super) enum MirrorDestination<'a> {
    /// A registry: its host, and the prefix of all repositories.
    Registry { client: &'a Client, registry: &'a str, prefix: &'a str },
    /// A layout or an archive.
    Layout { path: &'a Path, opened: Box<dyn MultiImageDestination> },
}

/// The destination of one image.
pub(super) struct ImageDestination {
    /// The repository as the user writes it, or the layout.
    pub(super) repository: String,
    /// The repository with the host that requests go to; `None` for a layout.
    pub(super) home: Option<Repository>,
    /// The target of the copy; `None` before there is one.
    pub(super) target: Option<Arc<dyn Target>>,
    /// The reader of its names; `None` before there is one.
    pub(super) named: Option<Arc<dyn Named>>,
    /// The tags of the image there; empty for an image that has only a digest.
    pub(super) tags: Vec<String>,
    /// The full name there, for messages.
    pub(super) shown: String,
    /// The prefix of tags there, for the tags of signatures.
    pub(super) before_tags: String,
}

impl<'a> MirrorDestination<'a> {
    pub(super) fn open(location: &'a MirrorLocation, client: &'a Client) -> Result<Self, ContentError> {
        Ok(match location {
            MirrorLocation::Registry { registry, prefix } => Self::Registry { client, registry, prefix },
            MirrorLocation::Layout(name) => {
                let opened = transport::of(name).multi_image_destination()?;
                Self::Layout { path: name.path().unwrap_or(Path::new("")), opened }
            }
        })
    }

    /// Creates the target. A delta omits the blobs for which `has` returns true.
    pub(super) async fn begin(&mut self, has: KnownElsewhere) -> Result<(), ContentError> {
        if let Self::Layout { opened, .. } = self { opened.begin(has).await } else { Ok(()) }
    }

    /// The destination of the image `name` with this root manifest or index.
    pub(super) fn image(&self, name: &Reference, root: &Descriptor) -> Result<ImageDestination, ContentError> {
        match self {
            Self::Layout { path, opened } => {
                let full = super::full(name);
                Ok(ImageDestination {
                    repository: path.display().to_string(),
                    home: None,
                    target: opened.target(),
                    named: opened.names()?.map(|names| Arc::new(names) as Arc<dyn Named>),
                    shown: format!("{}:{full}", path.display()),
                    tags: vec![full],
                    before_tags: format!("{}:", super::repository(name)),
                })
            }
            Self::Registry { client, registry, prefix } => {
                let placed = MirrorLocation::in_registry(registry, prefix, name).map_err(|error| {
                    Cause::Other { message: error.why, hint: None }.of(format!("name the image {}", error.name))
                })?;
                let remote = Arc::new(client.repository(&placed));
                Ok(ImageDestination {
                    repository: super::repository(&placed),
                    home: remote.repository(root),
                    target: Some(remote.clone()),
                    named: Some(remote),
                    tags: placed.tag().map(str::to_owned).into_iter().collect(),
                    shown: super::full(&placed),
                    before_tags: String::new(),
                })
            }
        }
    }

    /// Another repository of the registry by its name `HOST/a/b`: its name there, and the repository. `None` for a
    /// layout, which has one store for all images.
    pub(super) fn beside(&self, repository: &str) -> Option<(String, Remote)> {
        let Self::Registry { client, registry, prefix } = self else { return None };
        let Ok(ImageName::Registry(name)) = repository.parse() else { return None };
        let placed = MirrorLocation::in_registry(registry, prefix, &name).ok()?;
        Some((super::repository(&placed), client.repository(&placed)))
    }

    /// The address of the image there. Two images with the same address collide.
    pub(super) fn address(&self, name: &Reference) -> String {
        match self {
            Self::Registry { registry, prefix, .. } => MirrorLocation::in_registry(registry, prefix, name)
                .map_or_else(|error| error.name, |placed| super::full(&placed)),
            _ => super::full(name),
        }
    }

    /// The path of the files, and how many bytes of the blobs already exist there.
    pub(super) fn files(&self) -> Option<(&Path, u64)> {
        let Self::Layout { path, opened } = self else { return None };
        Some((path, opened.partial_size()))
    }

    /// Publishes an archive, so that its names can be read.
    pub(super) async fn finish(&mut self) -> Result<(), ContentError> {
        if let Self::Layout { opened, .. } = self { opened.finish().await } else { Ok(()) }
    }
}
