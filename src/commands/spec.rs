//! `ociforge spec`

use ociforge_manifests::runtime::{Host, runtime_spec};

use super::Context;
use crate::cli::{self, SpecArgs};
use crate::error::Failure;
use crate::run::host;

pub(super) async fn run(context: &Context, args: SpecArgs) -> Result<(), Failure> {
    let request = args.runtime.into_request(|key| std::env::var_os(key))?;
    let located = context.find_image(&args.image).await?;
    let image = located.image(&args.platform.unwrap_or_default()).await?;
    let host = Host { root: args.rootfs, ..host::facts() };
    let spec = runtime_spec(&image.config, &image.manifest.annotations, &request, &host)?;
    for warning in &spec.warnings {
        context.reporter.warn(warning);
    }
    cli::raw_result(&[&spec.bytes(), b"\n".as_slice()].concat())
}
