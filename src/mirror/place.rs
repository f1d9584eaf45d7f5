//! Where images are found under their names, and where they go.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};
use std::str::FromStr;

use ociforge_manifests::{ImageName, Reference, ReferenceError};

/// A place that holds many images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `docker://R[/P]`: `HOST/a/b:t` is at `R/P/a/b:t`.
    Registry {
        /// Host and perhaps port.
        registry: String,
        /// What stands before all repositories; empty for nothing.
        prefix: String,
    },
    /// `oci:DIR`: an OCI layout with the full names of its images.
    Layout(PathBuf),
    /// `oci-archive:FILE`: the same in a tar file.
    Archive(PathBuf),
}

impl Place {
    /// The directory or file; none for a registry.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Registry { .. } => None,
            Self::Layout(path) | Self::Archive(path) => Some(path),
        }
    }

    /// Whether both are one place, however their paths are written.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self == other || self.path().zip(other.path()).is_some_and(|(a, b)| is_same_file(a, b))
    }

    /// The image `name` in this registry: under its digest where it has one but no tag.
    ///
    /// # Errors
    /// When the name becomes too long.
    pub fn in_registry(registry: &str, prefix: &str, name: &Reference) -> Result<Reference, ReferenceError> {
        let slash = if prefix.is_empty() { "" } else { "/" };
        let text = format!("{registry}/{prefix}{slash}{}", rest(name));
        match text.parse()? {
            ImageName::Registry(placed) => Ok(placed),
            other => Err(ReferenceError { name: other.to_string(), why: "it is not in a registry".into() }),
        }
    }
}

/// Whether two paths lead to one file or directory, through links of either kind, too. What is missing is told by its
/// directory and name.
#[must_use]
pub fn is_same_file(a: &Path, b: &Path) -> bool {
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

/// Device and inode, of the directory above when there is only a name yet.
fn identity(path: &Path) -> Option<(u64, u64, Option<OsString>)> {
    if let Ok(found) = fs::metadata(path) {
        return Some((found.dev(), found.ino(), None));
    }
    let path = absolute(path).ok()?;
    let above = fs::metadata(path.parent()?).ok()?;
    Some((above.dev(), above.ino(), Some(path.file_name()?.to_owned())))
}

/// The name without its host.
fn rest(name: &Reference) -> String {
    let whole = name.whole();
    whole.strip_prefix(name.registry()).unwrap_or(&whole).trim_start_matches('/').to_owned()
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected docker://HOST[/PREFIX], oci:DIR or oci-archive:FILE".to_owned();
        if let Some(rest) = text.strip_prefix("docker://") {
            let rest = rest.trim_end_matches('/');
            let (registry, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            // Whether host and prefix are good ones shows in a name that has them.
            let name = format!("{registry}/{prefix}{}x", if prefix.is_empty() { "" } else { "/" });
            return match name.parse() {
                Ok(ImageName::Registry(name)) if name.registry() == registry => {
                    Ok(Self::Registry { registry: registry.to_owned(), prefix: prefix.to_owned() })
                }
                Ok(_) => Err(format!("`{registry}` is not a registry's host; {}", expected())),
                Err(error) => Err(error.why),
            };
        }
        match text.parse() {
            Ok(ImageName::Layout { directory, tag: None }) => Ok(Self::Layout(directory)),
            Ok(ImageName::Archive { file, tag: None }) => Ok(Self::Archive(file)),
            Ok(ImageName::Layout { .. } | ImageName::Archive { .. }) => {
                Err("leave the tag out: images keep their full names".into())
            }
            _ => Err(expected()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { registry, prefix } if prefix.is_empty() => write!(f, "docker://{registry}"),
            Self::Registry { registry, prefix } => write!(f, "docker://{registry}/{prefix}"),
            Self::Layout(directory) => write!(f, "oci:{}", directory.display()),
            Self::Archive(file) => write!(f, "oci-archive:{}", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_host_in_another_registry() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let (debian, by_digest) = ("debian:12", format!("nvcr.io/a/b@{digest}"));
        let placed = |prefix: &str, name: &str| {
            let ImageName::Registry(name) = name.parse().unwrap() else { panic!() };
            Place::in_registry("m.example:5000", prefix, &name).map(|placed| placed.whole())
        };
        assert_eq!(placed("ai/mirror", "nvcr.io/a/b:t").unwrap(), "m.example:5000/ai/mirror/a/b:t");
        assert_eq!(placed("", debian).unwrap(), "m.example:5000/library/debian:12");
        assert_eq!(placed("", &by_digest).unwrap(), format!("m.example:5000/a/b@{digest}"));
        assert!(placed(&"x/".repeat(120), &format!("nvcr.io/{}", "y".repeat(100))).is_err());
    }

    #[test]
    fn places_are_written_with_their_transport() {
        for good in ["docker://localhost:5000", "docker://m.example/a/b", "oci:dir", "oci-archive:a.tar"] {
            assert_eq!(good.parse::<Place>().unwrap().to_string(), good);
        }
        assert_eq!("docker://m.example/".parse::<Place>().unwrap().to_string(), "docker://m.example");
        for bad in ["m.example/a", "docker://plain", "docker://m.example/UPPER", "oci:dir:tag", "docker-archive:x", ""]
        {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
