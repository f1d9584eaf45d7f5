//! `ociforge.lock`: the resolved names of a recipe.

mod error;
mod file;
mod pin;
mod text;

pub use error::LockFileError;
pub use file::{Lock, LockedBase, LockedImage, SourceEntry, WheelEntry};
