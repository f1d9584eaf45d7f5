//! The recipe: what the user writes, read into a plan.

mod error;
mod fields;
mod layer;
mod mounts;
mod pip;
mod recipe;
mod run;
mod runtime;
mod types;
mod values;

pub use error::{Fault, PlanError, Position};
pub use mounts::is_secret_id;
pub use recipe::{FILE_NAME, read};
pub use types::{
    Base, MountKind, Owner, PROJECT_FILES, Pip, Plan, PythonVersion, Run, StatedPython, Step, StepKind, StepMount,
};

#[cfg(test)]
mod tests;
