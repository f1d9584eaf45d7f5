//! `ociforge.lock`: the resolved names of a recipe.

mod error;
mod file;
mod pin;

pub use error::LockFileError;
pub use file::{Lock, LockedBase, SourceEntry, WheelEntry};
