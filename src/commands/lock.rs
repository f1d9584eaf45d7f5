//! `ociforge lock`

use ociforge_layers::Compression;

use super::build::command_error;
use super::reexec::CommandError;
use super::{Context, FinalProcess, recipe};
use crate::build::{Secrets, lock_file};
use crate::bytes::counted;
use crate::cli::{self, LockArgs};

/// Whether the recipe needs the sandbox. Errors of the recipe are reported later.
pub(super) fn runs(args: &LockArgs) -> bool {
    recipe::has_something_run(&args.recipe, &Default::default())
}

pub(super) async fn run(context: &Context, args: LockArgs) -> Result<Option<Box<dyn FinalProcess>>, CommandError> {
    let plan = recipe::read(&args.recipe, &Default::default())?;
    let builder = context.builder(Compression::default(), true, Secrets::default())?;
    let lock = lock_file(&builder, &plan, &recipe::platforms(&plan, args.platforms)).await.map_err(command_error)?;
    let path = recipe::lock_path(&plan);
    lock.write(&path)?;
    let of_kind = |count: usize, kind: &str| (count > 0).then(|| counted(count, kind));
    let sources = of_kind(lock.sources.len(), "source").map(|sources| sources + " to build");
    let images = [of_kind(lock.bases.len(), "base image"), of_kind(lock.images.len(), "copied image")];
    let pinned = images.into_iter().chain([Some(counted(lock.wheels.len(), "wheel")), sources]).flatten();
    context.reporter.note(&format!("pinned: {}", pinned.collect::<Vec<_>>().join(", ")));
    cli::result(&path.display().to_string())?;
    Ok(None)
}
