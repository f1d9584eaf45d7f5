//! What this machine allows, and what to do about what it does not.
//!
//! Finding out and judging are apart: [`facts::gather`] reads files and tries things, [`judge`] makes [`Check`]s of what
//! it found and knows nothing of the machine, and [`table`] makes text of these.

mod check;
pub mod facts;
mod image;
mod judge;
mod table;

pub use check::{Check, Section, Status};
pub use facts::{Facts, Places, gather};
pub use image::judge_image;
pub use judge::judge;
pub use table::table;

#[cfg(test)]
mod tests;
