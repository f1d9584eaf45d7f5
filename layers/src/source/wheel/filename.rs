//! Names of wheels (PEP 427, "File name convention"; the binary distribution format).

use std::fmt;

use super::error::WheelFault;

/// The parts of a wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName {
    /// The distribution's name, normalised (PEP 503).
    pub name: String,
    /// The version in the file name's spelling.
    pub version: String,
    /// The build tag, empty if there is none.
    pub build: String,
    /// The compatibility tags.
    pub tags: WheelTags,
}

/// A compressed set of compatibility tags (PEP 425): each field is a list joined by dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelTags {
    /// `py3`, `cp311`, …
    pub python: String,
    /// `none`, `abi3`, `cp311`, …
    pub abi: String,
    /// `any`, `manylinux_2_17_x86_64`, …
    pub platform: String,
}

impl fmt::Display for WheelTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.python, self.abi, self.platform)
    }
}

impl FileName {
    /// Parses a file name.
    ///
    /// # Errors
    /// When it is not the name of a wheel.
    pub fn parse(file_name: &str) -> Result<Self, WheelFault> {
        let stem = file_name.strip_suffix(".whl").ok_or(WheelFault::FileName("it does not end in .whl"))?;
        let parts: Vec<&str> = stem.split('-').collect();
        let (name, version, build, python, abi, platform) = match parts[..] {
            [name, version, python, abi, platform] => (name, version, "", python, abi, platform),
            [name, version, build, python, abi, platform] => (name, version, build, python, abi, platform),
            _ => return Err(WheelFault::FileName("it does not have five or six parts")),
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(WheelFault::FileName("a part is empty"));
        }
        if file_name.contains(['/', '\0']) {
            return Err(WheelFault::FileName("it has a slash or a NUL byte"));
        }
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b)) {
            return Err(WheelFault::FileName("the first part is not the name of a distribution"));
        }
        if !build.is_empty() && !build.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(WheelFault::FileName("the build tag does not begin with a digit"));
        }
        let tags = WheelTags { python: python.to_owned(), abi: abi.to_owned(), platform: platform.to_owned() };
        Ok(Self { name: normalize(name), version: version.to_owned(), build: build.to_owned(), tags })
    }
}

impl FileName {
    /// The build tag for ordering: its number, then its suffix; `None`, the lowest, without a tag.
    #[must_use]
    pub fn build_order(&self) -> Option<(u64, &str)> {
        let end = self.build.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.build.len());
        let (number, rest) = self.build.split_at(end);
        Some((number.parse().ok()?, rest))
    }
}

impl WheelTags {
    /// Every single tag of the set, such as `cp311-cp311-manylinux_2_17_x86_64`.
    pub fn each(&self) -> impl Iterator<Item = String> {
        let abis = move |python| self.abi.split('.').map(move |abi| format!("{python}-{abi}"));
        let pairs = self.python.split('.').flat_map(abis);
        pairs.flat_map(|pair| self.platform.split('.').map(move |platform| format!("{pair}-{platform}")))
    }
}

/// The normalised name of a distribution (PEP 503): lower case, runs of `-`, `_` and `.` as one `-`.
#[must_use]
pub fn normalize(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for c in name.chars() {
        if !matches!(c, '-' | '_' | '.') {
            normal.push(c.to_ascii_lowercase());
        } else if !normal.ends_with('-') {
            normal.push('-');
        }
    }
    normal
}

/// Whether two texts are the same version (PEP 440), or the same text if they are not versions.
pub(super) fn same_version(a: &str, b: &str) -> bool {
    use pep440_rs::Version;
    // File names have `_` in place of `+` and `-`, which they cannot contain.
    let parse = |text: &str| text.parse::<Version>().or_else(|_| text.replacen('_', "+", 1).parse::<Version>()).ok();
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_name() {
        let name = FileName::parse("Foo_Bar.baz-1.0+cu121-2b-py2.py3-none-any.whl").unwrap();
        assert_eq!(
            (name.name.as_str(), name.version.as_str(), name.build.as_str()),
            ("foo-bar-baz", "1.0+cu121", "2b")
        );
        assert_eq!(name.tags.to_string(), "py2.py3-none-any");
        for bad in [
            "a-1-py3-none-any.zip",
            "a-1-py3-none.whl",
            "a-1-x-py3-none-any.whl",
            "a--py3-none-any.whl",
            "a-1-2-3-py3-none-any.whl",
            "a b-1-py3-none-any.whl",
            "a-1/../b-py3-none-any.whl",
            ".whl",
        ] {
            assert!(matches!(FileName::parse(bad), Err(WheelFault::FileName(_))), "{bad}");
        }
    }

    #[test]
    fn sets_of_tags_and_builds() {
        let name = |build: &str| FileName::parse(&format!("a-1-{build}py2.py3-none-any.win32.whl")).unwrap();
        let each: Vec<_> = name("").tags.each().collect();
        assert_eq!(each, ["py2-none-any", "py2-none-win32", "py3-none-any", "py3-none-win32"]);
        assert!(name("").build_order() < name("2-").build_order());
        assert!(name("2x-").build_order() < name("10-").build_order());
    }

    #[test]
    fn versions_are_compared_as_versions() {
        assert!(same_version("1.0", "1.0.0") && same_version("1.0a1", "1.0.alpha.1"));
        assert!(same_version("1.0_cu121", "1.0+cu121") && same_version("2004d", "2004d"));
        assert!(!same_version("1.0", "1.1") && !same_version("1.0+a", "1.0"));
    }
}
