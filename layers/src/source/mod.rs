//! Where trees come from.

pub mod directory;
pub mod ignore;
pub mod tar;
pub mod wheel;
