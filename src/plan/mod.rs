//! The files that users write: the recipe, which becomes a plan, and the list of images to mirror.

mod error;
mod fields;
mod layer;
mod mirror;
mod mounts;
mod pip;
mod recipe;
mod run;
mod runtime;
mod types;
mod values;

pub use error::{Fault, PlanError, Position};
pub use mirror::read as read_mirror;
pub use mounts::is_secret_id;
pub use recipe::{FILE_NAME, read};
pub use types::{
    Base, Libc, MountKind, Owner, PROJECT_FILES, Pip, Plan, PythonVersion, Run, Selection, StatedPython, Step,
    StepKind, StepMount,
};

#[cfg(test)]
mod tests;
