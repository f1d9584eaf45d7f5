//! What `spec`, `bundle` and `run` share: an image, and its layers unpacked.

use std::num::NonZero;
use std::sync::Arc;
use std::thread;

use ociforge_layers::unpack::Owners;
use ociforge_manifests::{Image, ImageName, Platform};

use super::Context;
use crate::content::Source;
use crate::error::Failure;
use crate::locate::locate;
use crate::rootfs::Unpacker;
use crate::run::host;
use crate::sandbox::Ids;
use crate::store::Store;
use crate::transfer::Places;

/// An image, and where its layers are.
pub(super) struct Located {
    pub(super) image: Image,
    pub(super) source: Arc<dyn Source>,
}

/// The image called `name` for `platform`, or for this machine.
pub(super) async fn image(context: &Context, name: &str, platform: Option<&Platform>) -> Result<Located, Failure> {
    let located = context.find_image(name).await?;
    let here = || Platform { architecture: host::architecture().into(), ..Platform::default() };
    let image = located.image(&platform.cloned().unwrap_or_else(here)).await?;
    let source = context.with_its_base(located.source, &image).await;
    Ok(Located { image, source })
}

impl Context {
    /// An image that was built here has the layers of its base where that is.
    async fn with_its_base(&self, source: Arc<dyn Source>, image: &Image) -> Arc<dyn Source> {
        let base = self.store_path().ok().and_then(|root| Store::base_of(&root, &image.manifest.digest()));
        let base = base.and_then(|base| base.parse::<ImageName>().ok());
        let (Some(base), Ok(client)) = (base, self.client()) else { return source };
        match base {
            ImageName::Registry(reference) => Arc::new(Places(vec![source, Arc::new(client.repository(&reference))])),
            place => match locate(&place, &client).await {
                Ok(base) => Arc::new(Places(vec![source, base.source])),
                Err(_) => source,
            },
        }
    }

    /// Unpacks layers from `source`, as many at a time as there are processors.
    pub(super) fn unpacker<'a>(&'a self, source: &'a dyn Source) -> Unpacker<'a> {
        let jobs = thread::available_parallelism().map_or(1, NonZero::get);
        let all = self.entered.as_ref().is_ok_and(|entered| entered.ids() == Ids::All);
        let owners = if all { Owners::Kept } else { Owners::KeptWherePossible };
        Unpacker { source, reporter: &*self.reporter, jobs, owners, cancel: &self.cancel }
    }

    /// Tells the user all of these.
    pub(super) fn warn_all(&self, warnings: &[String]) {
        warnings.iter().for_each(|warning| self.reporter.warn(warning));
    }
}
