//! The files that users write: the recipe, which becomes a plan, and the list of images to mirror.

mod config;
mod mirror;
mod python;
mod recipe;
mod runtime;
mod stages;
mod types;

pub use mirror::read as read_mirror;
pub use python::{Libc, PythonVersion, StatedPython};
pub use recipe::{FILE_NAME, read};
pub use types::{Base, Plan, Stage};

#[cfg(test)]
mod tests;
