//! The files that users write: the recipe, which becomes a plan, and the list of images to mirror.

mod mirror;
mod recipe;
mod runtime;
mod types;

pub use mirror::read as read_mirror;
pub use recipe::{FILE_NAME, read};
pub use types::{Base, Libc, Plan, PythonVersion, StatedPython};

#[cfg(test)]
mod tests;
