//! Containers: what the host gives them, and the runtimes that run them.

pub mod bundle;
mod cdi;
pub mod container;
pub mod host;
mod orphans;
pub mod runtime;
mod signals;
pub mod toolkit;
pub mod users;
