//! Findings and their subjects.

use super::code::LintCode;

/// A warning about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The code.
    pub code: LintCode,
    /// The fault, as a sentence without a capital or a full stop. It never contains the value of a variable that may be
    /// secret.
    pub message: String,
    /// The hint, in the same form.
    pub hint: String,
}

/// A Python package that a build installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstalledPackage<'a> {
    /// Its name, normalised (PEP 503).
    pub name: &'a str,
    /// Its version (PEP 440).
    pub version: &'a str,
}
