//! The base image: its resolution, and the facts about its filesystem that a build needs.

pub mod facts;
mod facts_filter;
mod file_filter;
mod python;
mod resolve;
mod tree;

pub use resolve::BaseImage;
