//! `ociforge spec`

use std::path::Path;

use ociforge_manifests::runtime::{Host, runtime_spec};

use super::{Context, container};
use crate::cli::{self, SpecArgs};
use crate::error::Failure;
use crate::run::{host, users};

pub(super) async fn run(context: &Context, args: SpecArgs) -> Result<(), Failure> {
    let overrides = args.runtime.overrides()?;
    let request = args.runtime.into_request(|key| std::env::var_os(key))?;
    let image = container::image(context, &args.image, args.platform.as_ref()).await?.image;
    // A relative path starts at the bundle, whose directory is unknown here: read users only from an absolute path.
    let unpacked = Path::new(&args.rootfs);
    let users = (unpacked.is_absolute() && unpacked.is_dir()).then(|| users::read(unpacked)).transpose()?;
    let host = Host { root: args.rootfs, users, ..host::facts(overrides) };
    let mut spec = runtime_spec(&image.config, &image.manifest.annotations, &request, &host)?;
    if request.rootless {
        host::keep_locked(&mut spec);
    }
    context.warn_all(&spec.warnings);
    cli::raw_result(&[&spec.bytes(), b"\n".as_slice()].concat())
}
