//! ociforge seen from outside, with the tools that people use beside it.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

mod architecture;
mod build;
mod bundle;
mod cache;
mod conformance;
mod copy;
mod determinism;
mod docker_archive;
mod doctor;
mod documents;
mod faults;
mod gc;
mod guarded;
mod hostile;
mod lies;
mod lint;
mod login;
mod outputs;
mod registry;
mod registry_names;
mod registry_tls;
mod rootless;
mod running;
mod running_as_user;
mod running_gpus;
mod serve;
mod sources;
mod spec;
mod steps;
mod steps_apt;
mod steps_as_user;
mod steps_hostile;
mod steps_interrupted;
mod support;
mod wheels;
