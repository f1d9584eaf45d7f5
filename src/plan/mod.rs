//! The recipe: what the user writes, read into a plan.

mod error;
mod fields;
mod layer;
mod recipe;
mod runtime;
mod types;

pub use error::{Fault, PlanError, Position};
pub use recipe::{FILE_NAME, read};
pub use types::{Base, Owner, Pip, Plan, PythonVersion, StatedPython, Step, StepKind};

#[cfg(test)]
mod tests;
