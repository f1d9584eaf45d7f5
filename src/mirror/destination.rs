//! Where images go.

use std::path::Path;
use std::sync::Arc;

use ociforge_manifests::{Descriptor, ImageName, Reference};

use super::MirrorLocation;
use crate::content::{Cause, ContentError, Named, Repository, Source, Target};
use crate::registry::{Client, Remote};
use crate::transport::{self, KnownElsewhere, MultiImageDestination};

/// Where images go. Nothing is written before [`MirrorDestination::begin`].
pub(super) enum MirrorDestination<'a> {
    /// A registry, by its host and what stands before all repositories.
    Registry { client: &'a Client, registry: &'a str, prefix: &'a str },
    /// A layout or an archive.
    Layout { path: &'a Path, opened: Box<dyn MultiImageDestination> },
}

/// Where one image goes.
pub(super) struct ImageDestination {
    /// The repository as the user knows it, or the layout.
    pub(super) repository: String,
    /// The same as it is spoken to, where it is in a registry.
    pub(super) home: Option<Repository>,
    /// What it is written to; nothing before there is anything.
    pub(super) target: Option<Arc<dyn Target>>,
    /// What its names are read from; nothing where none are yet.
    pub(super) named: Option<Arc<dyn Named>>,
    /// What the image is called there; no name where it is found by its digest.
    pub(super) tags: Vec<String>,
    /// Its whole name there, for people.
    pub(super) shown: String,
    /// What stands before a tag there, for the tags of signatures.
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

    /// Makes what is written to. A delta leaves out what `has` is true for.
    pub(super) async fn begin(&mut self, has: KnownElsewhere) -> Result<(), ContentError> {
        if let Self::Layout { opened, .. } = self { opened.begin(has).await } else { Ok(()) }
    }

    /// Where the image `name` goes, whose manifest or index is `root`.
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

    /// Another repository there, by its name `HOST/a/b`: what it is called there, and itself. Where one store holds all
    /// there are no others.
    pub(super) fn beside(&self, repository: &str) -> Option<(String, Remote)> {
        let Self::Registry { client, registry, prefix } = self else { return None };
        let Ok(ImageName::Registry(name)) = repository.parse() else { return None };
        let placed = MirrorLocation::in_registry(registry, prefix, &name).ok()?;
        Some((super::repository(&placed), client.repository(&placed)))
    }

    /// What tells two images apart that go to the same place.
    pub(super) fn address(&self, name: &Reference) -> String {
        match self {
            Self::Registry { registry, prefix, .. } => MirrorLocation::in_registry(registry, prefix, name)
                .map_or_else(|error| error.name, |placed| super::full(&placed)),
            _ => super::full(name),
        }
    }

    /// Where files are written, and how many bytes of what is to be written are there already.
    pub(super) fn files(&self) -> Option<(&Path, u64)> {
        let Self::Layout { path, opened } = self else { return None };
        Some((path, opened.partial_size()))
    }

    /// Lets an archive appear, so that its names can be read.
    pub(super) async fn finish(&mut self) -> Result<(), ContentError> {
        if let Self::Layout { opened, .. } = self { opened.finish().await } else { Ok(()) }
    }
}
