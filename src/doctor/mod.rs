//! Checks of this machine, and how to fix the problems found.
//!
//! Facts and evaluation are separate: [`facts::gather`] reads files and runs probes, [`judge`] converts its facts to
//! [`CheckResult`]s without access to the machine, and [`table`] formats them.

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
