//! The base image: finding it, and the few facts about its filesystem that a build needs.

pub mod facts;
mod file_filter;
mod python;
mod resolve;
mod scan;
mod tree;

pub use resolve::BaseImage;
