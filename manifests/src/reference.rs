//! Image names: references into registries, and the transports of containers-transports(5).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use oci_spec::distribution::Reference;

/// Where an image is, or is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageName {
    /// `docker://HOST/REPOSITORY[:TAG][@DIGEST]`, and any bare name, completed as docker does.
    Registry(Reference),
    /// `oci:DIR[:TAG]`: an OCI layout.
    Layout {
        /// The layout's directory.
        directory: PathBuf,
        /// The value of `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
    /// `oci-archive:FILE[:TAG]`: an OCI layout in a tar file.
    Archive {
        /// The tar file.
        file: PathBuf,
        /// The value of `org.opencontainers.image.ref.name`.
        tag: Option<String>,
    },
}

/// Transports of containers-transports(5) that are none here: as names they would be taken for repositories.
const OTHER_TRANSPORTS: [&str; 6] = ["containers-storage:", "dir:", "docker-daemon:", "ostree:", "sif:", "tarball:"];

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not an image name: {why}")]
pub struct ReferenceError {
    /// The text.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, ReferenceError> {
        let error = |why: String| ReferenceError { name: without_password(name), why };
        let place = |rest: &str| match rest.split_once(':') {
            _ if rest.is_empty() => Err(error("it has no path".into())),
            Some((_, "")) => Err(error("its tag is empty".into())),
            Some((path, tag)) => Ok((PathBuf::from(path), Some(tag.to_owned()))),
            None => Ok((PathBuf::from(rest), None)),
        };
        if let Some(rest) = name.strip_prefix("oci:") {
            let (directory, tag) = place(rest)?;
            Ok(Self::Layout { directory, tag })
        } else if let Some(rest) = name.strip_prefix("oci-archive:") {
            let (file, tag) = place(rest)?;
            Ok(Self::Archive { file, tag })
        } else if name.starts_with("docker-archive:") {
            Err(error("the docker-archive transport is not supported yet".into()))
        } else {
            let bare = name.strip_prefix("docker://").unwrap_or(name);
            if let Some(other) = OTHER_TRANSPORTS.iter().find(|other| bare.starts_with(**other)) {
                return Err(error(format!("the transport {other} is not supported")));
            }
            if bare.contains("://") {
                return Err(error("write the registry's host without http:// or https://".into()));
            }
            let reference = bare.parse::<Reference>().map_err(|cause| error(cause.to_string()))?;
            Ok(Self::Registry(reference))
        }
    }
}

/// A name as it may be shown: what stands before an `@` that no digest follows is meant as user and password.
fn without_password(name: &str) -> String {
    match name.rsplit_once('@') {
        Some((_, rest)) if !rest.starts_with("sha256:") && !rest.starts_with("sha512:") => format!("***@{rest}"),
        _ => name.to_owned(),
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, tag) = match self {
            Self::Registry(reference) => return reference.fmt(f),
            Self::Layout { directory, tag } => ("oci", directory, tag),
            Self::Archive { file, tag } => ("oci-archive", file, tag),
        };
        write!(f, "{transport}:{}", path.display())?;
        tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for name in ["https://user:secret@h/x", "user:secret@h/x", "docker://user:secret@h/x"] {
            let error = name.parse::<ImageName>().unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn names_are_read_and_completed() {
        for (text, whole) in [
            ("debian", "docker.io/library/debian:latest"),
            ("docker://nvcr.io/nvidia/pytorch:22.12-py3", "nvcr.io/nvidia/pytorch:22.12-py3"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("oci:dir:tag", "oci:dir:tag"),
            ("oci-archive:/a/b.tar", "oci-archive:/a/b.tar"),
        ] {
            assert_eq!(text.parse::<ImageName>().unwrap().to_string(), whole);
        }
        for bad in [
            "",
            "nvcr.io/UPPER",
            "oci:",
            "oci:dir:",
            "https://nvcr.io/nvidia/pytorch",
            "a b",
            "docker-archive:x",
            "dir:x",
        ] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }
}
