//! Writes a built image to its destinations, and the files about it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::{ArchivedImage, Descriptor, Document, Image, ImageError, ImageName, Reference};
use serde_json::json;

use super::super::Context;
use crate::build::{Builder, Built};
use crate::cli::BuildArgs;
use crate::content::{ByteStream, Cause, ContentError, Repository, Source, Target, read_document};
use crate::error::Failure;
use crate::store::layout::REF_NAME;
use crate::store::{Layout, write_archive, write_docker_archive};
use crate::transfer::{Moved, copy_graph};

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

    fn repository(&self, descriptor: &Descriptor) -> Option<Repository> {
        self.of(descriptor)?.repository(descriptor)
    }
}

/// Copies the image to all its destinations.
pub(super) async fn ship(
    context: &Context,
    builder: &Builder,
    source: &dyn Source,
    node: &GraphNode,
    names: &[ImageName],
    args: &BuildArgs,
) -> Result<Moved, Failure> {
    let mut moved = Moved::default();
    let mut all = if args.push { names.to_vec() } else { Vec::new() };
    all.extend(args.outputs.iter().flat_map(|output| with_names(output, names)));
    let mut destinations: Vec<&ImageName> = all.iter().collect();
    while let Some(destination) = destinations.first().copied() {
        // One copy writes several tags of one repository, or several names of one archive.
        let (together, rest): (Vec<_>, Vec<_>) =
            destinations.into_iter().partition(|other| *other == destination || same_place(other, destination));
        destinations = rest;
        let copied = ship_to(context, builder, source, node, &together, args).await;
        moved += copied.map_err(|failure| failure.during(format!("cannot write the image to {destination}")))?;
    }
    Ok(moved)
}

/// Expands a docker-archive without a name to one destination for each name of the image.
fn with_names(output: &ImageName, names: &[ImageName]) -> Vec<ImageName> {
    let ImageName::DockerArchive { file, image: None } = output else { return vec![output.clone()] };
    let named = names.iter().filter_map(|name| match name {
        ImageName::Registry(name) => {
            Some(ImageName::DockerArchive { file: file.clone(), image: Some(ArchivedImage::Named(name.clone())) })
        }
        _ => None,
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() { vec![output.clone()] } else { named }
}

/// Whether one copy can write both destinations.
fn same_place(a: &ImageName, b: &ImageName) -> bool {
    match (a, b) {
        (ImageName::Registry(a), ImageName::Registry(b)) => {
            (a.registry(), a.repository()) == (b.registry(), b.repository())
        }
        (ImageName::DockerArchive { file: a, .. }, ImageName::DockerArchive { file: b, .. }) => a == b,
        _ => false,
    }
}

/// Copies the image to one destination, under each of its `names`.
async fn ship_to(
    context: &Context,
    builder: &Builder,
    source: &dyn Source,
    node: &GraphNode,
    names: &[&ImageName],
    args: &BuildArgs,
) -> Result<Moved, Failure> {
    match names {
        [ImageName::Registry(reference), ..] => {
            let tags = names.iter().filter_map(|name| match name {
                ImageName::Registry(reference) => Some(reference.tag().unwrap_or("latest").to_owned()),
                _ => None,
            });
            let tags: Vec<String> = tags.collect();
            copy(context, source, &builder.client.repository(reference), node, &tags, args).await
        }
        [ImageName::Layout { directory, tag }, ..] => {
            let layout = Layout::create(directory)
                .map_err(|error| Failure::new(format!("cannot open {}", directory.display())).caused_by(error))?;
            let _hold = super::super::copy::hold(&layout)?;
            let tags = [tag.clone().unwrap_or_else(|| "latest".into())];
            copy(context, source, &layout, node, &tags, args).await
        }
        [ImageName::Archive { file, tag }, ..] => {
            archive(context, builder, source, node, file, tag.as_deref(), args).await
        }
        [ImageName::DockerArchive { file, .. }, ..] => {
            let names = names.iter().filter_map(|name| match name {
                ImageName::DockerArchive { image: Some(ArchivedImage::Named(name)), .. } => Some(name.clone()),
                _ => None,
            });
            docker_archive(context, source, node, file, &names.collect::<Vec<_>>()).await
        }
        [] => Ok(Moved::default()),
    }
}

async fn copy(
    context: &Context,
    source: &dyn Source,
    target: &dyn Target,
    node: &GraphNode,
    tags: &[String],
    args: &BuildArgs,
) -> Result<Moved, Failure> {
    Ok(copy_graph(source, target, node, tags, args.jobs, &*context.reporter).await?)
}

/// Copies all blobs into the store first, because the archive is written from there.
async fn archive(
    context: &Context,
    builder: &Builder,
    source: &dyn Source,
    node: &GraphNode,
    file: &Path,
    tag: Option<&str>,
    args: &BuildArgs,
) -> Result<Moved, Failure> {
    let layout = builder.store.layout();
    let moved = copy(context, source, layout, node, &[], args).await?;
    let mut image = node.descriptor();
    image.annotations.insert(REF_NAME.into(), tag.unwrap_or("latest").into());
    let size = node.children().iter().map(|child| child.size).sum();
    let task = context.reporter.task(&format!("archive {}", file.display()), Some(size));
    tokio::task::block_in_place(|| write_archive(layout, &[image], file, &*task))?;
    task.done("written");
    Ok(moved)
}

/// Writes a docker-archive directly from the sources of its layers.
async fn docker_archive(
    context: &Context,
    source: &dyn Source,
    node: &GraphNode,
    file: &Path,
    names: &[Reference],
) -> Result<Moved, Failure> {
    let GraphNode::Manifest(manifest) = node else { return Err(one_platform(file)) };
    let config = read_document(source, &manifest.config).await?;
    let unsound = |error: ImageError| Failure::new("the image is not sound").caused_by(error);
    let config = Document::parse(config).map_err(|error| unsound(error.into()))?;
    let image = Image::new((**manifest).clone(), config).map_err(unsound)?;
    let size = manifest.layers.iter().map(|layer| layer.size).sum();
    let task = context.reporter.task(&format!("archive {}", file.display()), Some(size));
    write_docker_archive(source, &image, names, file, &*task).await?;
    task.done("written");
    let streamed = manifest.layers.iter().filter(|layer| source.repository(layer).is_some());
    let streamed = streamed.map(|layer| layer.size).sum();
    Ok(Moved { uploaded: size - streamed, streamed, documents: 1, ..Moved::default() })
}

/// The error for a docker-archive with several platforms.
pub(super) fn one_platform(file: &Path) -> Failure {
    Failure::new(format!("docker-archive:{} can hold the image of one platform only", file.display()))
        .hint("choose one with --platform, or write oci-archive:FILE")
        .usage()
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

/// Checks, before anything is built, that the files that the caller asked for can be written.
pub(super) fn check_files(args: &BuildArgs) -> Result<(), Failure> {
    for path in [&args.iidfile, &args.metadata_file].into_iter().flatten() {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if path.is_dir() || !parent.is_dir() {
            let why = if path.is_dir() {
                "it is a directory".into()
            } else {
                format!("there is no directory {}", parent.display())
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
