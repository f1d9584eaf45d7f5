//! The recipe of a command, and its lock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ociforge_manifests::Platform;

use crate::cli::RecipeArgs;
use crate::error::Failure;
use crate::plan::{self, Plan};

/// Reads the recipe. Where both a recipe and a directory are given, its paths count from that directory.
pub(super) fn read(args: &RecipeArgs, build_args: &BTreeMap<String, String>) -> Result<Plan, Failure> {
    let RecipeArgs { recipe, file } = args;
    let mut plan = plan::read(path(args), build_args)?;
    if let (Some(directory), Some(_)) = (recipe, file) {
        if !directory.is_dir() {
            return Err(Failure::new(format!("{} is not a directory", directory.display()))
                .hint("with -f, the argument is the directory that the recipe's paths are relative to")
                .usage());
        }
        plan.directory.clone_from(directory);
    }
    Ok(plan)
}

/// Whether the recipe runs code, as far as this can be determined without blocking: a pipe can be read only once.
/// Faults of the recipe are reported later.
pub(super) fn has_something_run(args: &RecipeArgs, build_args: &BTreeMap<String, String>) -> bool {
    let waits = std::fs::metadata(path(args)).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
    !waits && plan::read(path(args), build_args).is_ok_and(|plan| plan.needs_sandbox())
}

fn path(args: &RecipeArgs) -> &Path {
    args.file.as_deref().or(args.recipe.as_deref()).unwrap_or(Path::new("."))
}

/// The path of a plan's lock.
pub(super) fn lock_path(plan: &Plan) -> PathBuf {
    plan.directory.join(Path::new("ociforge.lock"))
}

/// The platforms of the command line, or else those of the recipe.
pub(super) fn platforms(plan: &Plan, chosen: Vec<Platform>) -> Vec<Platform> {
    if chosen.is_empty() { plan.platforms.clone() } else { chosen }
}
