//! Containers: the facts of the host, and the runtimes.

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
