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
    let counts = [
        (lock.bases.len(), "base image"),
        (lock.images.len(), "copied image"),
        (lock.wheels.len(), "wheel"),
        (lock.sources.len(), "source to build"),
    ];
    let counts = counts.into_iter().filter(|(count, what)| *count > 0 || *what == "wheel");
    let counts: Vec<_> = counts.map(|(count, what)| counted(count, what)).collect();
    context.reporter.note(&format!("pinned: {}", counts.join(", ")));
    cli::result(&path.display().to_string())?;
    Ok(None)
}

/// `1 wheel`, `2 wheels`, `2 sources to build`.
fn counted(count: usize, what: &str) -> String {
    let (noun, rest) = what.split_at(what.find(" to ").unwrap_or(what.len()));
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}{rest}")
}
