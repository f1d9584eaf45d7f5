//! Where trees come from.

pub mod directory;
pub mod tar;
pub mod wheel;
