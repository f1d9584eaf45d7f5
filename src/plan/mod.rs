//! The recipe: what the user writes, read into a plan.

mod error;
mod fields;
mod layer;
mod recipe;
mod runtime;
mod types;

pub use error::{Fault, PlanError, Position};
pub use recipe::{FILE_NAME, read};
pub use types::{Base, MountKind, Owner, Pip, Plan, PythonVersion, Run, StatedPython, Step, StepKind, StepMount};

#[cfg(test)]
mod tests;
