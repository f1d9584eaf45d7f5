//! Sources of trees.

pub mod capture;
pub mod changes;
pub mod directory;
pub mod ignore;
pub mod image;
pub mod overlay;
pub mod tar;
pub mod wheel;
pub mod zip;
