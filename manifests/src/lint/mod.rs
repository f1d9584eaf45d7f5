//! Warnings about built images: faults of the config that appear only when a container starts on a GPU, and secrets
//! that would be published.
//!
//! A warning requires almost certainty. Faults of the base are reported only if the image can fix them.

mod code;
mod environment;
mod finding;
mod layers;
mod nvidia;
mod packages;
mod secrets;

use crate::config::ExecutionParameters;

pub use code::{LintCode, UnknownCode};
pub use finding::{Finding, InstalledPackage};
pub use layers::layer_count;

/// The findings of `image`, which was built on `base` with `packages`. Without a base, only faults of the image itself
/// are found.
///
/// The findings are in the order of [`LintCode::ALL`], and those of one code in the order of the image's variables.
#[must_use]
pub fn lint(
    base: Option<&ExecutionParameters>,
    image: &ExecutionParameters,
    packages: &[InstalledPackage<'_>],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(nvidia::cuda_version(image));
    findings.extend(nvidia::requirement(base, image));
    findings.extend(nvidia::compat(base, image));
    findings.extend(nvidia::entrypoint(base, image));
    findings.extend(nvidia::devices(image));
    findings.extend(nvidia::capabilities(image));
    findings.extend(packages::onnxruntime(image, packages));
    findings.extend(packages::onnxruntime_twice(packages));
    findings.extend(environment::without_value(image));
    findings.extend(secrets::in_environment(base, image));
    findings
}

#[cfg(test)]
mod tests;
