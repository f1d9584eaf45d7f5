//! Targets of the selection of wheels.

use std::fmt;
use std::str::FromStr;

use ociforge_manifests::Platform;

use super::resolve::uv;
use crate::plan::Libc;

/// The Python, platform and C library that wheels must run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelTarget {
    /// The Python.
    pub python: Python3Version,
    /// The platform.
    pub platform: Platform,
    /// The C library.
    pub libc: Libc,
}

/// A version of Python 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Python3Version {
    /// The 11 of 3.11.
    pub minor: u32,
    /// The 2 of 3.11.2, if known.
    pub patch: Option<u32>,
}

/// Text that is not a version of Python 3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a version of Python 3 (expected one such as 3.11 or 3.11.2)")]
pub struct PythonVersionError(pub String);

impl FromStr for Python3Version {
    type Err = PythonVersionError;

    fn from_str(text: &str) -> Result<Self, PythonVersionError> {
        let numbers: Option<Vec<u32>> = text.split('.').map(|number| number.parse().ok()).collect();
        match numbers.as_deref() {
            Some([3, minor]) => Ok(Self { minor: *minor, patch: None }),
            Some([3, minor, patch]) => Ok(Self { minor: *minor, patch: Some(*patch) }),
            _ => Err(PythonVersionError(text.to_owned())),
        }
    }
}

impl fmt::Display for Python3Version {
    /// Without the patch version if it is unknown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "3.{}", self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}

impl WheelTarget {
    /// The assumed C library if the base's is unknown: every maintained distribution has at least this version.
    pub const ASSUMED_LIBC: Libc = Libc::Glibc(2, 28);
    /// The newest C library that uv can resolve for.
    pub const NEWEST_LIBC: Libc = Libc::Glibc(2, uv::NEWEST_GLIBC);

    /// The kernel's name of the machine, as in wheel tags.
    #[must_use]
    pub fn machine(&self) -> &str {
        match self.platform.architecture.as_str() {
            "amd64" => "x86_64",
            "arm64" => "aarch64",
            "386" => "i686",
            other => other,
        }
    }

    /// A linux/amd64 target.
    #[cfg(test)]
    pub(super) fn for_tests(python: &str, libc: Libc) -> Self {
        Self { python: python.parse().unwrap(), platform: Platform::default(), libc }
    }
}

impl fmt::Display for WheelTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Python {} on {} with {}", self.python, self.platform, self.libc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!("3.11".parse::<Python3Version>().unwrap().to_string(), "3.11");
        assert_eq!("3.11.2".parse::<Python3Version>().unwrap().patch, Some(2));
        for bad in ["2.7", "3", "3.x", "3.11.2.1", "", "3.13t"] {
            assert!(bad.parse::<Python3Version>().is_err(), "{bad}");
        }
    }
}
