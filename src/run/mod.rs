//! Containers: what the host gives them.

pub mod host;
