//! The base image: finding it, and the few facts about its filesystem that a build needs.

pub mod facts;
mod python;
mod resolve;
mod scan;
mod sieve;
mod tree;

pub use resolve::BaseImage;
