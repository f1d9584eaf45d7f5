//! `[python]`: the Python of the base, as the recipe states it.

use std::fmt;

use ociforge_layers::LayerPath;
use serde::{Deserialize, Serialize};

use crate::tables::PlanError;
use crate::tables::fields::Value;
use crate::tables::values::{absolute, path};

/// The keys of `[python]`.
pub(super) const KEYS: &[&str] = &["version", "site-packages", "executable", "libc"];

/// Reads `[python]`.
pub(super) fn python(value: &Value<'_>) -> Result<StatedPython, PlanError> {
    let table = value.table("[python]")?.only(KEYS)?;
    let version = table.require("version", "version = \"3.11\"")?;
    let site_packages =
        table.require("site-packages", "site-packages = \"/usr/local/lib/python3.11/dist-packages\"")?;
    let executable = table.require("executable", "executable = \"/usr/bin/python3\"")?;
    let parsed = version.text()?.parse::<PythonVersion>();
    Ok(StatedPython {
        version: parsed.map_err(|()| version.unexpected("a version such as `3.11` or `3.11.4`", None))?,
        site_packages: path(&site_packages)?,
        executable: absolute(&executable)?.to_owned(),
        libc: table.get("libc").map(|value| libc(&value)).transpose()?,
    })
}

fn libc(value: &Value<'_>) -> Result<Libc, PlanError> {
    let expected = "a C library and its version, such as `glibc 2.36` or `musl 1.2`";
    value.text()?.parse().map_err(|()| value.unexpected(expected, None))
}

/// A Python that the recipe states, so that the base is not searched for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatedPython {
    /// The version.
    pub version: PythonVersion,
    /// The directory of its packages.
    pub site_packages: LayerPath,
    /// The interpreter: an absolute path in the image.
    pub executable: String,
    /// The base's C library, if the recipe states it.
    pub libc: Option<Libc>,
}

/// A C library and its version. They determine which wheels run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Libc {
    /// glibc, major and minor version.
    Glibc(u32, u32),
    /// musl, major and minor version.
    Musl(u32, u32),
}

impl std::str::FromStr for Libc {
    type Err = ();

    /// Parses `glibc 2.39` or `musl 1.2`, and ignores a patch version.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, version) = text.split_once(' ').ok_or(())?;
        let numbers = version.split('.').map(|number| match number.bytes().all(|byte| byte.is_ascii_digit()) {
            true => number.parse().map_err(drop),
            false => Err(()),
        });
        match (name, &*numbers.collect::<Result<Vec<u32>, ()>>()?) {
            ("glibc", [2, minor] | [2, minor, _]) => Ok(Self::Glibc(2, *minor)),
            ("musl", [1, minor] | [1, minor, _]) => Ok(Self::Musl(1, *minor)),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc(major, minor) => write!(f, "glibc {major}.{minor}"),
            Self::Musl(major, minor) => write!(f, "musl {major}.{minor}"),
        }
    }
}

/// A version of Python: `3.11` or `3.11.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PythonVersion {
    /// The major version, 3.
    pub major: u32,
    /// The minor version, such as 11.
    pub minor: u32,
    /// The patch version, such as 4.
    pub patch: Option<u32>,
}

impl std::str::FromStr for PythonVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<u32>().map_err(drop),
            false => Err(()),
        };
        let numbers = text.split('.').map(number).collect::<Result<Vec<u32>, ()>>()?;
        match *numbers.as_slice() {
            [major, minor] => Ok(Self { major, minor, patch: None }),
            [major, minor, patch] => Ok(Self { major, minor, patch: Some(patch) }),
            _ => Err(()),
        }
    }
}

impl fmt::Display for PythonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.patch.map_or(Ok(()), |patch| write!(f, ".{patch}"))
    }
}
