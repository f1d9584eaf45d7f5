//! Writes a built image to its destinations, and the files about it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{Descriptor, Image, ImageName};
use serde_json::json;

use crate::build::{Builder, Built};
use crate::cli::BuildArgs;
use crate::content::{ByteStream, Cause, ContentError, Repository, Source, Target};
use crate::error::Failure;
use crate::store::dir::directory_of;
use crate::transfer::Moved;
use crate::transport::{self, BuiltImage};

/// The bases of an image's platforms.
pub(super) struct Bases(pub(super) Vec<(Image, Arc<dyn Source>)>);

impl Bases {
    fn of(&self, descriptor: &Descriptor) -> Option<&dyn Source> {
        let has = |image: &Image| image.manifest.layers.iter().any(|layer| layer.digest == descriptor.digest);
        self.0.iter().find(|(image, _)| has(image)).map(|(_, source)| &**source)
    }
}

#[async_trait]
impl Source for Bases {
    async fn fetch(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, ContentError> {
        match self.of(descriptor) {
            Some(source) => source.fetch(descriptor, offset).await,
            None => Err(Cause::NotFound.of(format!("read {}", descriptor.digest))),
        }
    }

    fn location(&self, descriptor: &Descriptor) -> String {
        self.of(descriptor).map_or_else(|| "the bases".into(), |source| source.location(descriptor))
    }

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.of(descriptor)?.repository(descriptor)
    }
}

/// Copies the image to all its destinations.
pub(super) async fn ship(image: &BuiltImage<'_>, names: &[ImageName], args: &BuildArgs) -> Result<Moved, Failure> {
    let mut moved = Moved::default();
    let mut destinations = if args.push { names.to_vec() } else { Vec::new() };
    destinations.extend(args.outputs.iter().flat_map(|output| with_names(output, names)));
    // Several tags of one repository are one copy, as are several names in one archive.
    let group = |name: &ImageName| transport::of(name).group().unwrap_or_else(|| name.clone());
    while let Some(destination) = destinations.first().cloned() {
        let (together, rest): (Vec<_>, Vec<_>) =
            destinations.into_iter().partition(|other| group(other) == group(&destination));
        destinations = rest;
        let copied = transport::of(&destination).write(image, &together[1..]).await;
        moved += copied.map_err(|failure| failure.during(format!("cannot write the image to {destination}")))?;
    }
    Ok(moved)
}

/// The names for `output`: if it has none, the image's own.
fn with_names(output: &ImageName, names: &[ImageName]) -> Vec<ImageName> {
    let own: Vec<_> = names.iter().filter_map(|name| transport::of(name).full_name()).collect();
    let named = transport::of(output).named(&own);
    if named.is_empty() { vec![output.clone()] } else { named }
}

/// Keeps the image in the store under its names, for `spec` and `inspect`.
pub(super) async fn keep(
    builder: &Builder,
    built: &[Built],
    node: &GraphNode,
    names: &[ImageName],
) -> Result<(), Failure> {
    let layout = builder.store.layout();
    let documents = built.iter().flat_map(|b| [b.image.manifest.bytes(), b.image.config.bytes()]);
    for bytes in documents.chain([node.bytes()]) {
        layout.put(bytes).map_err(|error| Failure::new("cannot write to the store").caused_by(error))?;
    }
    for one in built {
        let Some(base) = one.base.name.as_ref().map(absolute) else { continue };
        let remembered = builder.store.remember_base(&one.image.manifest.digest(), &base.to_string());
        remembered.map_err(|error| Failure::new("cannot write to the store").caused_by(error))?;
    }
    for name in names {
        if let ImageName::Registry(reference) = name {
            layout.tag(&node.descriptor(), node.bytes(), &reference.whole()).await?;
        }
    }
    Ok(())
}

/// Makes the path in a name absolute.
fn absolute(name: &ImageName) -> ImageName {
    name.with_path(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Checks before the build that the output files are writable.
pub(super) fn check_files(args: &BuildArgs) -> Result<(), Failure> {
    for path in [&args.iidfile, &args.metadata_file].into_iter().flatten() {
        let parent = directory_of(path);
        if path.is_dir() || !parent.is_dir() {
            let why = if path.is_dir() {
                "it is a directory".into()
            } else {
                format!("the directory {} does not exist", parent.display())
            };
            let failure = Failure { causes: vec![why], ..Failure::new(format!("cannot write {}", path.display())) };
            return Err(failure.hint("name a file in a directory that exists").usage());
        }
    }
    Ok(())
}

/// Writes the files of `--metadata-file` and `--iidfile`.
pub(super) fn write_files(
    args: &BuildArgs,
    builder: &Builder,
    built: &[Built],
    node: &GraphNode,
    moved: Moved,
) -> Result<(), Failure> {
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(|error| Failure::new(format!("cannot write {}", path.display())).caused_by(error))
    };
    if let Some(path) = &args.iidfile {
        let id = built.first().map(|b| b.image.config.digest().to_string());
        write(path, id.unwrap_or_default())?;
    }
    if let Some(path) = &args.metadata_file {
        write(path, format!("{:#}\n", metadata(builder, built, node, moved)))?;
    }
    Ok(())
}

fn metadata(builder: &Builder, built: &[Built], node: &GraphNode, moved: Moved) -> serde_json::Value {
    let layers = built.iter().flat_map(|b| b.layers.iter().map(move |layer| (b, layer)));
    let layers = layers.map(|(b, layer)| {
        json!({
            "platform": b.platform.to_string(),
            "description": layer.description,
            "digest": layer.layer.descriptor.digest,
            "size": layer.layer.descriptor.size,
            "diffId": layer.layer.diff_id,
            "uncompressed": layer.layer.uncompressed,
            "cached": layer.cached,
        })
    });
    let requests = builder.client.stats().counts();
    json!({
        "digest": node.descriptor().digest,
        "mediaType": node.media_type(),
        "layers": layers.collect::<Vec<_>>(),
        "bytes": {
            "uploaded": moved.uploaded,
            "streamed": moved.streamed,
            "mounted": moved.mounted,
            "present": moved.present,
            "downloaded": requests.received,
        },
        "requests": {
            "head": requests.head,
            "get": requests.get,
            "post": requests.post,
            "put": requests.put,
            "other": requests.other,
        },
    })
}
