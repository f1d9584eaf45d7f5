//! `ociforge lock`

use ociforge_layers::Compression;

use super::build::command_error;
use super::reexec::CommandError;
use super::{Context, FinalProcess, recipe};
use crate::build::{Secrets, lock_file};
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
    let (bases, wheels, sources) = (lock.bases.len() + lock.images.len(), lock.wheels.len(), lock.sources.len());
    let sources = if sources == 0 { String::new() } else { format!(", and {sources} source(s) to build") };
    context.reporter.note(&format!("pinned {bases} base image(s) and {wheels} wheel(s){sources}"));
    cli::result(&path.display().to_string())?;
    Ok(None)
}
