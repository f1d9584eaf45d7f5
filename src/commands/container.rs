//! Shared code of `spec`, `bundle` and `run`: finds an image and unpacks its layers.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use ociforge_layers::unpack::OwnerPolicy;
use ociforge_manifests::{Digest, Image, ImageName, Platform};

use super::Context;
use crate::content::{Named, Source};
use crate::error::Failure;
use crate::rootfs::Unpacker;
use crate::run::host;
use crate::store::Store;
use crate::transfer::Based;
use crate::transport;
use ociforge_sandbox::IdMapping;

/// An image, and the source of its layers.
pub(super) struct ResolvedImage {
    pub(super) image: Image,
    pub(super) source: Arc<dyn Source>,
}

/// The image `name` for `platform`, by default for this machine.
pub(super) async fn image(
    context: &Context,
    name: &str,
    platform: Option<&Platform>,
) -> Result<ResolvedImage, Failure> {
    let opened = context.find_image(name).await?;
    let here = || Platform { architecture: host::architecture().into(), ..Platform::default() };
    let image = opened.image(&platform.cloned().unwrap_or_else(here)).await?;
    let source = context.with_its_base(opened.source, &image.manifest.digest()).await;
    Ok(ResolvedImage { image, source })
}

impl Context {
    /// Adds the source of the base to an image that was built here: the store does not have the base's layers.
    pub(super) async fn with_its_base(&self, image: Arc<dyn Named>, manifest: &Digest) -> Arc<dyn Named> {
        let base = self.store_path().ok().and_then(|root| Store::base_of(&root, manifest));
        let base = base.and_then(|base| base.parse::<ImageName>().ok());
        let (Some(base), Ok(client)) = (base, self.client()) else { return image };
        match transport::of(&base).blobs(&client).await {
            Ok(base) => Arc::new(Based { image, base }),
            Err(_) => image,
        }
    }

    /// Unpacks layers from `source`, one per processor at the same time.
    pub(super) fn unpacker<'a>(&'a self, source: &'a dyn Source) -> Unpacker<'a> {
        let jobs = thread::available_parallelism().map_or(1, NonZero::get);
        let all = self.entered.as_ref().is_ok_and(|entered| entered.ids() == IdMapping::All);
        let owners = if all { OwnerPolicy::Kept } else { OwnerPolicy::KeptWherePossible };
        Unpacker { source, reporter: &*self.reporter, jobs, owners, cancel: &self.cancel }
    }

    /// Reports all of these warnings.
    pub(super) fn warn_all(&self, warnings: &[String]) {
        warnings.iter().for_each(|warning| self.reporter.warn(warning));
    }
}
