//! ociforge assembles OCI images without a daemon: it reads the manifest of a base image, builds layers natively,
//! writes a new manifest, copies missing content to a registry, and creates an OCI runtime spec.
//!
//! Each module uses only those that follow it in the table of `docs/architecture.md`; a test checks this order.

pub mod base;
pub mod build;
pub mod bytes;
pub mod cancel;
pub mod cli;
pub mod commands;
pub mod content;
pub mod doctor;
pub mod error;
pub mod http;
pub mod layer;
pub mod lock;
pub mod mirror;
pub mod plan;
pub mod process;
pub mod progress;
pub mod python;
pub mod registry;
pub mod rootfs;
pub mod run;
pub mod serve;
pub mod store;
pub mod tables;
#[cfg(test)]
#[path = "../manifests/tests/support/program.rs"]
mod testing;
pub mod transfer;
pub mod transport;
