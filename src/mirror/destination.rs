//! Where images go.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ociforge_manifests::{Descriptor, Digest, ImageName, Reference};

use super::Place;
use crate::content::{Cause, ContentError, Named, Repository, Source, Target};
use crate::registry::{Client, Remote};
use crate::store::{Archive, ArchiveWriter, Hold, Layout, Names};

/// Where images go. Nothing is written before [`Destination::begin`].
pub(super) enum Destination {
    /// A registry, by its host and what stands before all repositories.
    Registry { client: Client, registry: String, prefix: String },
    /// A layout, once there is one.
    Layout { directory: PathBuf, layout: Option<Arc<Layout>>, hold: Option<Hold> },
    /// An archive, once it is begun.
    Archive { file: PathBuf, writer: Option<Arc<ArchiveWriter>> },
}

/// Where one image goes.
pub(super) struct End {
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

impl Destination {
    pub(super) fn open(place: &Place, client: &Client) -> Self {
        match place {
            Place::Registry { registry, prefix } => {
                Self::Registry { client: client.clone(), registry: registry.clone(), prefix: prefix.clone() }
            }
            Place::Layout(directory) => {
                let layout = Layout::open(directory).ok().map(Arc::new);
                Self::Layout { directory: directory.clone(), layout, hold: None }
            }
            Place::Archive(file) => Self::Archive { file: file.clone(), writer: None },
        }
    }

    /// Makes what is written to. A delta leaves out what `has` is true for.
    pub(super) async fn begin(
        &mut self,
        has: impl Fn(&Digest) -> bool + Send + Sync + 'static,
    ) -> Result<(), ContentError> {
        match self {
            Self::Registry { .. } => {}
            Self::Layout { directory, layout, hold } => {
                let made = Layout::create(&*directory).and_then(|made| Ok((Hold::on(&made)?, made)));
                let made = made.map_err(|error| Cause::Io(error).of(format!("open {}", directory.display())))?;
                (*hold, *layout) = (Some(made.0), Some(Arc::new(made.1)));
            }
            Self::Archive { file, writer } => {
                *writer = Some(Arc::new(ArchiveWriter::create(&*file).await?.since(has)));
            }
        }
        Ok(())
    }

    /// Where the image `name` goes, whose manifest or index is `root`.
    pub(super) fn end(&self, name: &Reference, root: &Descriptor) -> Result<End, ContentError> {
        let full = super::full(name);
        let before_tags = format!("{}:", super::repository(name));
        let listed = |directory: &Path, target: Option<Arc<dyn Target>>, named: Option<Arc<dyn Named>>| End {
            repository: directory.display().to_string(),
            home: None,
            target,
            named,
            tags: vec![full.clone()],
            shown: format!("{}:{full}", directory.display()),
            before_tags: before_tags.clone(),
        };
        match self {
            Self::Layout { directory, layout, .. } => {
                let named = layout.clone().map(|layout| Names::new(layout).map(Arc::new)).transpose()?;
                let named = named.map(|names| names as Arc<dyn Named>);
                Ok(listed(directory, layout.clone().map(|layout| layout as Arc<dyn Target>), named))
            }
            Self::Archive { file, writer } => {
                Ok(listed(file, writer.clone().map(|writer| writer as Arc<dyn Target>), None))
            }
            Self::Registry { client, registry, prefix } => {
                let placed = Place::in_registry(registry, prefix, name).map_err(|error| {
                    Cause::Other { message: error.why, hint: None }.of(format!("name the image {}", error.name))
                })?;
                let remote = Arc::new(client.repository(&placed));
                Ok(End {
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
        let placed = Place::in_registry(registry, prefix, &name).ok()?;
        Some((super::repository(&placed), client.repository(&placed)))
    }

    /// What tells two images apart that go to the same place.
    pub(super) fn address(&self, name: &Reference) -> String {
        match self {
            Self::Registry { registry, prefix, .. } => Place::in_registry(registry, prefix, name)
                .map_or_else(|error| error.name, |placed| super::full(&placed)),
            _ => super::full(name),
        }
    }

    /// Where files are written, and how many bytes of what is to be written are there already.
    pub(super) fn files(&self) -> Option<(&Path, u64)> {
        match self {
            Self::Registry { .. } => None,
            Self::Layout { directory, .. } => Some((directory, 0)),
            Self::Archive { file, .. } => {
                // See `ArchiveWriter`: what a killed process left is gone on with.
                let partial = fs::metadata(ArchiveWriter::partial_path(file));
                Some((file, partial.map_or(0, |metadata| metadata.len())))
            }
        }
    }

    /// Makes an archive appear, and opens it to be read.
    pub(super) async fn finish(&mut self) -> Result<Option<Archive>, ContentError> {
        let Self::Archive { file, writer } = self else { return Ok(None) };
        let Some(writer) = writer.take().and_then(Arc::into_inner) else {
            let message = "it is still written to".into();
            return Err(Cause::Other { message, hint: None }.of(format!("finish {}", file.display())));
        };
        writer.finish().await?;
        Archive::open(&*file).map(Some)
    }
}
