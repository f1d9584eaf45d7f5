//! `ociforge copy`

use std::path::Path;
use std::slice::from_ref;
use std::sync::Arc;

use ociforge_manifests::graph::GraphNode;
use ociforge_manifests::reference::EntryName;
use ociforge_manifests::{ArchivedImage, Descriptor, ImageName, Platform, Reference, media_type};
use serde_json::json;

use super::Context;
use crate::cli::{self, CopyArgs, CopyFormat, Format};
use crate::content::Target;
use crate::error::Failure;
use crate::locate::Located;
use crate::mirror::is_same_file;
use crate::run::host;
use crate::store::{ArchiveWriter, Hold, Layout, write_docker_archive};
use crate::transfer::{AsOci, Copied, ImageCopy, Moved, Verifying};

pub(super) async fn run(context: &Context, args: &CopyArgs) -> Result<(), Failure> {
    if args.formats.contains(&CopyFormat::Text) && args.formats.contains(&CopyFormat::Json) {
        return Err(Failure::new("the output can't be text and json").hint("leave one of the two `--format`").usage());
    }
    let destination: ImageName = args.destination.parse()?;
    let source: ImageName = args.source.parse()?;
    if let (Some(read), Some(written)) = (archive(&source), archive(&destination))
        && is_same_file(read, written)
    {
        let causes = vec!["an archive is replaced, and what is read would be lost".to_owned()];
        let failure = Failure { causes, ..Failure::new(format!("{source} and {destination} are the same file")) };
        return Err(failure.hint("write to another file").usage());
    }
    let Located { node, source: from, .. } = context.find_image(&args.source).await?;
    let from = context.with_its_base(from, &node.descriptor().digest).await;
    let from = Located { name: source.to_string(), node, source: from };
    let from = if args.converts() { as_oci(context, from, &destination).await? } else { from };
    let to = Destination { context, args, from };
    let copied = match destination.clone() {
        ImageName::Registry(reference) => to.registry(&reference).await,
        ImageName::Layout { directory, tag } => to.layout(&directory, tag.unwrap_or_else(|| tag_of(&source))).await,
        ImageName::Archive { file, tag } => to.archive(&file, tag.unwrap_or_else(|| tag_of(&source))).await,
        ImageName::DockerArchive { file, image } => match image {
            Some(ArchivedImage::At(_)) => Err(no_place()),
            Some(ArchivedImage::Named(name)) => to.docker_archive(&file, Some(name)).await,
            None => to.docker_archive(&file, named(&source)).await,
        },
    };
    let copied = copied.map_err(|failure| failure.during(format!("cannot copy {source} to {destination}")))?;
    tell_of_dockers(context, &destination, &copied);
    print(args.output(), &destination, &copied)
}

/// Converts Docker's manifests of the image to OCI's.
async fn as_oci(context: &Context, from: Located, destination: &ImageName) -> Result<Located, Failure> {
    if matches!(destination, ImageName::DockerArchive { .. }) {
        let failure = Failure::new("an archive for docker holds no manifests that could be OCI's");
        return Err(failure.hint("leave `--format oci`, or write oci-archive:FILE").usage());
    }
    let Located { name, node, source } = from;
    let Some((new, converted)) = AsOci::new(source.clone(), &node).await? else {
        return Ok(Located { name, node, source });
    };
    let [old, now] = [&node, &new].map(|node| node.descriptor().digest);
    context.reporter.note(&format!(
        "{name} becomes OCI's, and its digest, {old}, becomes {now}; what refers to the old one, such as a signature, \
         stays behind"
    ));
    Ok(Located { name, node: new, source: Arc::new(converted) })
}

/// Notes which programs ignore Docker's manifests in a layout.
fn tell_of_dockers(context: &Context, destination: &ImageName, copied: &Copied) {
    let is_layout = matches!(destination, ImageName::Layout { .. } | ImageName::Archive { .. });
    if is_layout && copied.documents.iter().any(|document| media_type::is_docker(&document.media_type)) {
        context.reporter.note(&format!(
            "{destination} has manifests of Docker's with the digests that they had; skopeo 1.9 and podman 4.3 do not \
             see those in a layout: `--format oci` turns them into OCI's"
        ));
    }
}

fn no_place() -> Failure {
    Failure::new("an image is written into an archive for docker under a name, not at a place").usage()
}

/// The file of an oci-archive or docker-archive.
fn archive(name: &ImageName) -> Option<&Path> {
    match name {
        ImageName::Archive { file, .. } | ImageName::DockerArchive { file, .. } => Some(file),
        ImageName::Registry(_) | ImageName::Layout { .. } => None,
    }
}

/// The tag for a destination that names none: that of the source, or `latest`.
fn tag_of(source: &ImageName) -> String {
    let tag = match source {
        ImageName::Registry(reference) => reference.tag(),
        ImageName::Layout { tag, .. } | ImageName::Archive { tag, .. } => tag.as_deref(),
        ImageName::DockerArchive { image: Some(ArchivedImage::Named(name)), .. } => name.tag(),
        ImageName::DockerArchive { .. } => None,
    };
    tag.unwrap_or("latest").to_owned()
}

/// The name for `docker load` if the destination names none: that of the source, if it has one.
fn named(source: &ImageName) -> Option<Reference> {
    match source {
        ImageName::Registry(reference) if reference.digest().is_none() => Some(reference.clone()),
        ImageName::Registry(_) => None,
        ImageName::DockerArchive { image: Some(ArchivedImage::Named(name)), .. } => Some(name.clone()),
        ImageName::DockerArchive { .. } => None,
        ImageName::Layout { tag, .. } | ImageName::Archive { tag, .. } => match tag.as_deref()?.parse() {
            Ok(ImageName::Registry(full)) if full.digest().is_none() && Some(full.whole()) == *tag => Some(full),
            _ => None,
        },
    }
}

/// Copies an image to its destination.
struct Destination<'a> {
    context: &'a Context,
    args: &'a CopyArgs,
    from: Located,
}

impl Destination<'_> {
    async fn registry(&self, reference: &Reference) -> Result<Copied, Failure> {
        let digest = self.from.node.descriptor().digest;
        if reference.digest().is_some() && !self.args.platforms.is_empty() {
            let failure = Failure::new("the digest of the image for one platform is known when it is copied");
            return Err(failure.hint("leave the digest of the destination").usage());
        }
        if reference.digest().is_some_and(|wanted| wanted != digest.as_str()) {
            return Err(Failure::new(format!("the image's digest is {digest}")).hint("leave the digest").usage());
        }
        let target = self.context.client()?.repository(reference);
        let tags: Vec<String> = reference.tag().map(str::to_owned).into_iter().collect();
        self.copy(&target, &tags, &str::to_owned).await
    }

    async fn layout(&self, directory: &Path, name: String) -> Result<Copied, Failure> {
        let layout = Layout::create(directory)
            .map_err(|error| Failure::new(format!("cannot open {}", directory.display())).caused_by(error))?;
        let _hold = hold(&layout)?;
        self.copy(&layout, from_ref(&name), &beside(&name)).await
    }

    async fn archive(&self, file: &Path, name: String) -> Result<Copied, Failure> {
        let archive = ArchiveWriter::create(file).await?;
        let copied = self.copy(&archive, from_ref(&name), &beside(&name)).await?;
        archive.finish().await?;
        Ok(copied)
    }

    /// A docker-archive has no manifests and holds one platform: that of `--platform`, or this machine's.
    async fn docker_archive(&self, file: &Path, name: Option<Reference>) -> Result<Copied, Failure> {
        let here = Platform { architecture: host::architecture().into(), ..Platform::default() };
        let platform = match &self.args.platforms[..] {
            [] => None,
            [platform] => Some(platform),
            _ => return Err(Failure::new("a docker archive holds one platform").hint("choose one").usage()),
        };
        let image = self.from.image_or_only(platform, &here).await?;
        let bytes = image.manifest.layers.iter().map(|layer| layer.size).sum();
        let task = self.context.reporter.task(&format!("docker archive {}", file.display()), Some(bytes));
        let names: Vec<Reference> = name.into_iter().collect();
        write_docker_archive(&*self.from.source, &image, &names, file, &*task).await?;
        task.done("written");
        let root = GraphNode::Manifest(Box::new(image.manifest)).descriptor();
        let moved = Moved { uploaded: bytes, ..Moved::default() };
        Ok(Copied { documents: vec![root.clone()], root, moved, referrers: 0 })
    }

    async fn copy(
        &self,
        target: &dyn Target,
        tags: &[String],
        naming: &(dyn Fn(&str) -> String + Sync),
    ) -> Result<Copied, Failure> {
        let verifying = Verifying::new(target, &*self.context.reporter);
        let copy = ImageCopy {
            source: &*self.from.source,
            target: if self.args.verify_target { &verifying } else { target },
            naming,
            platforms: &self.args.platforms,
            referrers: !self.args.no_referrers,
            jobs: self.args.jobs,
            reporter: &*self.context.reporter,
        };
        Ok(copy.copy(&self.from.node, tags).await?)
    }
}

/// Keeps garbage collection out of a layout during a write.
pub(super) fn hold(layout: &Layout) -> Result<Hold, Failure> {
    let failed = |error| Failure::new(format!("cannot write to {}", layout.root().display())).caused_by(error);
    Hold::on(layout).map_err(failed)
}

/// The names of other tags of the repository of `name` in a layout. They contain the repository if `name` does.
fn beside(name: &str) -> impl Fn(&str) -> String + Sync {
    let repository = EntryName::of(name).repository.map_or_else(String::new, |repository| format!("{repository}:"));
    move |tag| format!("{repository}{tag}")
}

fn print(format: Format, destination: &ImageName, copied: &Copied) -> Result<(), Failure> {
    let Copied { root, moved, referrers, documents } = copied;
    match format {
        Format::Text => cli::result(&format!("{}@{}", without_digest(destination), root.digest)),
        Format::Json => {
            let manifests: Vec<_> = documents.iter().map(|Descriptor { digest, .. }| digest).collect();
            let json = json!({
                "name": destination.to_string(),
                "digest": root.digest,
                "blobs": moved,
                "referrers": referrers,
                "manifests": manifests,
            });
            cli::result(&format!("{json:#}"))
        }
    }
}

fn without_digest(name: &ImageName) -> String {
    let text = name.to_string();
    text.split_once('@').map_or(text.clone(), |(name, _)| name.to_owned())
}
