//! `ociforge lock`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ociforge_layers::Compression;
use ociforge_manifests::Platform;

use super::build::command_error;
use super::reexec::CommandError;
use super::{Context, FinalProcess, recipe};
use crate::build::{Builder, Epoch, Sandbox, Secrets, lock_file};
use crate::cli::{self, LockArgs};
use crate::error::Failure;
use crate::plan::Plan;

/// Whether the recipe needs the sandbox. Errors of the recipe are reported later.
pub(super) fn runs(args: &LockArgs) -> bool {
    recipe::has_something_run(&args.recipe, &Default::default())
}

pub(super) async fn run(context: &Context, args: LockArgs) -> Result<Option<Box<dyn FinalProcess>>, CommandError> {
    let plan = recipe::read(&args.recipe, &Default::default())?;
    let builder = context.builder(Compression::default(), true, Secrets::default())?;
    let lock = lock_file(&builder, &plan, &platforms(&plan, args.platforms)).await.map_err(command_error)?;
    let path = path(&plan);
    lock.write(&path)?;
    let (bases, wheels, sources) = (lock.bases.len(), lock.wheels.len(), lock.sources.len());
    let sources = if sources == 0 { String::new() } else { format!(", and {sources} source(s) to be built") };
    context.reporter.note(&format!("pinned {bases} base image(s) and {wheels} wheel(s){sources}"));
    cli::result(&path.display().to_string())?;
    Ok(None)
}

/// The path of a plan's lock.
pub(super) fn path(plan: &Plan) -> PathBuf {
    plan.directory.join(Path::new("ociforge.lock"))
}

/// The platforms of the command line, or else those of the recipe.
pub(super) fn platforms(plan: &Plan, chosen: Vec<Platform>) -> Vec<Platform> {
    if chosen.is_empty() { plan.platforms.clone() } else { chosen }
}

impl Context {
    /// The builder with the store, the client and the sandbox of this command.
    pub(super) fn builder(
        &self,
        compression: Compression,
        use_cache: bool,
        secrets: Secrets,
    ) -> Result<Builder, Failure> {
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        Ok(Builder {
            store: self.store()?,
            client: self.client()?,
            reporter: self.reporter.clone(),
            cancel: self.cancel.clone(),
            compression,
            use_cache,
            epoch: Epoch::parse(epoch.as_deref())?,
            sandbox: self.entered.clone().map(|entered| Arc::new(Sandbox::new(entered, secrets))),
            isolated: None,
            check_base: false,
            state: Arc::default(),
        })
    }
}
