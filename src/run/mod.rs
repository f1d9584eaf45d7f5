//! Containers: what the host gives them, and the runtimes that run them.

pub mod bundle;
mod cdi;
pub mod container;
mod etc;
pub mod host;
pub mod kernel;
mod orphans;
mod recipient;
pub mod runtime;
mod screen;
mod signals;
pub mod toolkit;
pub mod users;
