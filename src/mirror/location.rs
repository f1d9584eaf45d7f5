//! Locations of many images by name.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ociforge_manifests::{ImageName, Reference, ReferenceError};

use crate::transport::{self, is_same_file};

/// A place that holds many images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MirrorLocation {
    /// `docker://R[/P]`: `HOST/a/b:t` is at `R/P/a/b:t`.
    Registry {
        /// Host and optional port.
        registry: String,
        /// The prefix of all repositories; may be empty.
        prefix: String,
    },
    /// `oci:DIR` or `oci-archive:FILE`: an OCI layout with the full names of its images.
    Layout(ImageName),
}

impl MirrorLocation {
    /// The directory or file; `None` for a registry.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Registry { .. } => None,
            Self::Layout(name) => name.path(),
        }
    }

    /// Whether it is a file, which is written as a whole.
    #[must_use]
    pub fn is_archive(&self) -> bool {
        matches!(self, Self::Layout(name) if transport::of(name).archive().is_some())
    }

    /// Whether both are the same location, even if their paths differ.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self == other || self.path().zip(other.path()).is_some_and(|(a, b)| is_same_file(a, b))
    }

    /// The image `name` in this registry: by digest if it has a digest but no tag.
    ///
    /// # Errors
    /// When the name is too long.
    pub fn in_registry(registry: &str, prefix: &str, name: &Reference) -> Result<Reference, ReferenceError> {
        let slash = if prefix.is_empty() { "" } else { "/" };
        let text = format!("{registry}/{prefix}{slash}{}", rest(name));
        match text.parse()? {
            ImageName::Registry(placed) => Ok(placed),
            other => Err(ReferenceError { name: other.to_string(), why: "the image is not in a registry".into() }),
        }
    }
}

/// The name without its host.
fn rest(name: &Reference) -> String {
    let whole = name.whole();
    whole.strip_prefix(name.registry()).unwrap_or(&whole).trim_start_matches('/').to_owned()
}

impl FromStr for MirrorLocation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected docker://HOST[/PREFIX], oci:DIR or oci-archive:FILE".to_owned();
        if let Some(rest) = text.strip_prefix("docker://") {
            let rest = rest.trim_end_matches('/');
            let (registry, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            // A name that contains host and prefix shows whether they are valid.
            let name = format!("{registry}/{prefix}{}x", if prefix.is_empty() { "" } else { "/" });
            return match name.parse() {
                Ok(ImageName::Registry(name)) if name.registry() == registry => {
                    Ok(Self::Registry { registry: registry.to_owned(), prefix: prefix.to_owned() })
                }
                Ok(_) => Err(format!("`{registry}` is not a registry's host; {}", expected())),
                Err(error) => Err(error.why),
            };
        }
        match text.parse::<ImageName>() {
            Ok(name) if !transport::of(&name).is_layout() => Err(expected()),
            Ok(name) if transport::of(&name).tag().is_some() => {
                Err("omit the tag: images keep their full names".into())
            }
            Ok(name) => Ok(Self::Layout(name)),
            Err(_) => Err(expected()),
        }
    }
}

impl fmt::Display for MirrorLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { registry, prefix } if prefix.is_empty() => write!(f, "docker://{registry}"),
            Self::Registry { registry, prefix } => write!(f, "docker://{registry}/{prefix}"),
            Self::Layout(name) => name.fmt(f),
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
            MirrorLocation::in_registry("m.example:5000", prefix, &name).map(|placed| placed.whole())
        };
        assert_eq!(placed("ai/mirror", "nvcr.io/a/b:t").unwrap(), "m.example:5000/ai/mirror/a/b:t");
        assert_eq!(placed("", debian).unwrap(), "m.example:5000/library/debian:12");
        assert_eq!(placed("", &by_digest).unwrap(), format!("m.example:5000/a/b@{digest}"));
        assert!(placed(&"x/".repeat(120), &format!("nvcr.io/{}", "y".repeat(100))).is_err());
    }

    #[test]
    fn places_are_written_with_their_transport() {
        for good in ["docker://localhost:5000", "docker://m.example/a/b", "oci:dir", "oci-archive:a.tar"] {
            assert_eq!(good.parse::<MirrorLocation>().unwrap().to_string(), good);
        }
        assert_eq!("docker://m.example/".parse::<MirrorLocation>().unwrap().to_string(), "docker://m.example");
        for bad in ["m.example/a", "docker://plain", "docker://m.example/UPPER", "oci:dir:tag", "docker-archive:x", ""]
        {
            assert!(bad.parse::<MirrorLocation>().is_err(), "{bad}");
        }
    }
}
