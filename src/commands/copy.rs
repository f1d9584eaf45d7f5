//! `ociforge copy`

use std::sync::Arc;

use ociforge_manifests::{Descriptor, ImageName, Platform, media_type};
use serde_json::json;

use super::Context;
use crate::cli::{self, CopyArgs, CopyFormat, Format};
use crate::error::Failure;
use crate::run::host;
use crate::transfer::{AsOci, Copied};
use crate::transport::{self, ImageSource, ImageToCopy, is_same_file};

pub(super) async fn run(context: &Context, args: &CopyArgs) -> Result<(), Failure> {
    if args.formats.contains(&CopyFormat::Text) && args.formats.contains(&CopyFormat::Json) {
        return Err(Failure::new("the output cannot be both text and json")
            .hint("omit one of the two `--format`")
            .usage());
    }
    let destination: ImageName = args.destination.parse()?;
    let source: ImageName = args.source.parse()?;
    let target = transport::of(&destination);
    if let (Some(read), Some(written)) = (transport::of(&source).archive(), target.archive())
        && is_same_file(read, written)
    {
        let causes = vec!["the copy would overwrite the archive that it reads".to_owned()];
        let failure = Failure { causes, ..Failure::new(format!("{source} and {destination} are the same file")) };
        return Err(failure.hint("write to another file").usage());
    }
    let ImageSource { node, source: from, .. } = context.find_image(&args.source).await?;
    let from = context.with_its_base(from, &node.descriptor().digest).await;
    let mut from = ImageSource { name: source.to_string(), node, source: from };
    if args.converts() {
        target.check_conversion()?;
        from = as_oci(context, from).await?;
    }
    let image = ImageToCopy {
        from,
        name: &source,
        platforms: &args.platforms,
        here: &Platform { architecture: host::architecture().into(), ..Platform::default() },
        referrers: !args.no_referrers,
        verify_target: args.verify_target,
        jobs: args.jobs,
        client: context.client()?,
        reporter: &*context.reporter,
    };
    let copied = target.copy(&image).await;
    let copied = copied.map_err(|failure| failure.during(format!("cannot copy {source} to {destination}")))?;
    if target.is_layout() {
        tell_of_dockers(context, &destination, &copied);
    }
    print(args.output(), &destination, &copied)
}

/// Converts Docker's manifests of the image to OCI's.
async fn as_oci(context: &Context, from: ImageSource) -> Result<ImageSource, Failure> {
    let ImageSource { name, node, source } = from;
    let Some((new, converted)) = AsOci::new(source.clone(), &node).await? else {
        return Ok(ImageSource { name, node, source });
    };
    let [old, now] = [&node, &new].map(|node| node.descriptor().digest);
    context.reporter.note(&format!(
        "{name} is converted to OCI, and its digest changes from {old} to {now}; signatures and other referrers of \
            the old digest are not copied"
    ));
    Ok(ImageSource { name, node: new, source: Arc::new(converted) })
}

/// Notes which programs ignore Docker's manifests in a layout.
fn tell_of_dockers(context: &Context, destination: &ImageName, copied: &Copied) {
    if copied.documents.iter().any(|document| media_type::is_docker(&document.media_type)) {
        context.reporter.note(&format!(
            "{destination} has Docker manifests with their original digests; skopeo 1.9 and podman 4.3 ignore those \
                in a layout: `--format oci` converts them to OCI"
        ));
    }
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
