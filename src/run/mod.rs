//! Containers: what the host gives them.

pub mod host;
pub mod mappings;
pub mod users;
