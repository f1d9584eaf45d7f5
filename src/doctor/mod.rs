//! What this machine allows, and what to do about what it does not.
//!
//! Finding out and judging are apart: [`facts::gather`] reads files and tries things, [`judge`] makes [`CheckResult`]s of what
//! it found and knows nothing of the machine, and [`table`] makes text of these.

mod check;
pub mod facts;
mod image;
mod judge;
mod table;

pub use check::{CheckResult, CheckStatus, Section};
pub use facts::{DoctorPaths, MachineFacts, gather};
pub use image::judge_image;
pub use judge::judge;
pub use table::table;

#[cfg(test)]
mod tests;
