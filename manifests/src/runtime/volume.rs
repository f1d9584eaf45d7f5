//! `--volume`: a bind mount of a directory or file of the host.

use std::str::FromStr;

use super::mount::SpecMount;
use super::path::clean;
use crate::nearest::nearest;

/// `SOURCE:DESTINATION[:OPTION,…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The host path in its original form; relative ones start at the caller's working directory.
    pub source: String,
    /// Absolute path in the container, without `.`, `..` and double slashes; never `/`.
    pub destination: String,
    /// Whether the destination had no leading slash.
    pub was_relative: bool,
    /// Whether it is read-only in the container.
    pub read_only: bool,
    /// Whether to change SELinux labels, which ociforge does not do.
    pub relabel: bool,
    /// The propagation of mounts below it; one of [`PROPAGATION`].
    propagation: &'static str,
}

/// Text that is not a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a volume: {why}")]
pub struct VolumeError {
    /// The text.
    pub text: String,
    /// The fault.
    pub why: VolumeFault,
}

/// The fault of a volume.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeFault {
    /// Only one path, which means an anonymous volume in docker.
    #[error("it has no destination")]
    NoDestination,
    /// An empty path.
    #[error("a path is empty")]
    Empty,
    /// More than three parts.
    #[error("it has too many parts")]
    Parts,
    /// A destination that would hide the image.
    #[error("the destination is the container's root")]
    Root,
    /// An unknown option.
    #[error("`{0}` is not an option")]
    Option(String),
    /// Two options that conflict or repeat.
    #[error("`{0}` is one option too many")]
    Conflict(String),
    /// A NUL byte, which is invalid in a path.
    #[error("it has a NUL")]
    Nul,
}

/// The kinds of propagation, private first.
pub const PROPAGATION: [&str; 6] = ["rprivate", "private", "rshared", "shared", "rslave", "slave"];

/// SELinux labels shared by containers, or private to this one.
const LABELS: [&str; 2] = ["z", "Z"];

/// Docker's options for hosts with remote file sharing; elsewhere they have no effect.
const CONSISTENCY: [&str; 3] = ["consistent", "cached", "delegated"];

impl VolumeError {
    /// The hint.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match &self.why {
            VolumeFault::NoDestination => format!("write the destination: {0}:{0}", self.text),
            VolumeFault::Option(option) => {
                let known = [&["ro", "rw"][..], &PROPAGATION, &LABELS, &CONSISTENCY].concat();
                match nearest(option, &known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the options are {}", known.join(", ")),
                }
            }
            _ => "write SOURCE:DESTINATION, or SOURCE:DESTINATION:ro".into(),
        })
    }
}

impl Volume {
    /// A bind mount of the file or directory `source` at `destination`, an absolute clean path other than `/`.
    #[must_use]
    pub fn bind(source: String, destination: String, read_only: bool) -> Self {
        Self { source, destination, was_relative: false, read_only, relabel: false, propagation: PROPAGATION[0] }
    }
}

impl FromStr for Volume {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<Self, VolumeError> {
        let error = |why| VolumeError { text: text.to_owned(), why };
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, options) = match parts[..] {
            _ if text.contains('\0') => return Err(error(VolumeFault::Nul)),
            [] | [_] => return Err(error(VolumeFault::NoDestination)),
            [source, destination] => (source, destination, ""),
            [source, destination, options] => (source, destination, options),
            _ => return Err(error(VolumeFault::Parts)),
        };
        if source.is_empty() || destination.is_empty() || (parts.len() == 3 && options.is_empty()) {
            return Err(error(VolumeFault::Empty));
        }
        let options = VolumeOptions::read(options).map_err(error)?;
        let was_relative = !destination.starts_with('/');
        let destination = clean(destination);
        if destination == "/" {
            return Err(error(VolumeFault::Root));
        }
        Ok(Self {
            source: source.to_owned(),
            destination,
            was_relative,
            read_only: options.read_only.unwrap_or(false),
            relabel: options.label.is_some(),
            propagation: options.propagation.unwrap_or(PROPAGATION[0]),
        })
    }
}

/// The options of a volume, at most one of each kind.
#[derive(Default)]
struct VolumeOptions {
    read_only: Option<bool>,
    propagation: Option<&'static str>,
    label: Option<&'static str>,
    consistency: Option<&'static str>,
}

impl VolumeOptions {
    fn read(text: &str) -> Result<Self, VolumeFault> {
        let mut options = Self::default();
        for option in text.split(',').filter(|_| !text.is_empty()) {
            if options.add(option).ok_or_else(|| VolumeFault::Option(option.to_owned()))? {
                return Err(VolumeFault::Conflict(option.to_owned()));
            }
        }
        Ok(options)
    }

    /// Whether the volume already had an option of that kind; `None` for an unknown option.
    fn add(&mut self, option: &str) -> Option<bool> {
        let find = |kind: &[&'static str]| kind.iter().copied().find(|known| *known == option);
        Some(match option {
            "ro" => self.read_only.replace(true).is_some(),
            "rw" => self.read_only.replace(false).is_some(),
            _ => match (find(&PROPAGATION), find(&LABELS)) {
                (Some(propagation), _) => self.propagation.replace(propagation).is_some(),
                (_, Some(label)) => self.label.replace(label).is_some(),
                _ => self.consistency.replace(find(&CONSISTENCY)?).is_some(),
            },
        })
    }
}

impl Volume {
    /// The bind mount, with `source` in place of the volume's source.
    pub(crate) fn mount(&self, source: &str) -> SpecMount {
        let mut options = vec!["rbind", self.propagation];
        if self.read_only {
            options.push("ro");
        }
        SpecMount::bind(source, &self.destination, &options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read() {
        for (text, source, destination, options) in [
            ("/a:/b", "/a", "/b", "rbind,rprivate"),
            ("/a:/b:ro", "/a", "/b", "rbind,rprivate,ro"),
            ("/a:/b:rw,rshared", "/a", "/b", "rbind,rshared"),
            ("/a:/b//c/../d/./:rslave,ro", "/a", "/b/d", "rbind,rslave,ro"),
            ("/a:/../../b", "/a", "/b", "rbind,rprivate"),
            ("local_dir:container_dir", "local_dir", "/container_dir", "rbind,rprivate"),
            ("/with space:/b,c", "/with space", "/b,c", "rbind,rprivate"),
            ("/a:/b:z", "/a", "/b", "rbind,rprivate"),
            ("/a:/b:Z,ro,rslave", "/a", "/b", "rbind,rslave,ro"),
            ("/a:/b:ro,cached", "/a", "/b", "rbind,rprivate,ro"),
            ("/a:/b:delegated,rw,z", "/a", "/b", "rbind,rprivate"),
            ("/a:/b:consistent", "/a", "/b", "rbind,rprivate"),
        ] {
            let volume: Volume = text.parse().unwrap();
            let mount = volume.mount(&volume.source);
            assert_eq!((mount.source.as_str(), mount.destination.as_str()), (source, destination), "{text}");
            assert_eq!(mount.options.join(","), options, "{text}");
            assert_eq!(volume.was_relative, text.starts_with("local"));
            assert_eq!(volume.relabel, text.contains(['z', 'Z']), "{text}");
        }
    }

    #[test]
    fn what_is_no_volume_says_why() {
        for (text, why) in [
            ("", VolumeFault::NoDestination),
            ("/data", VolumeFault::NoDestination),
            (":/b", VolumeFault::Empty),
            ("/a:", VolumeFault::Empty),
            ("/a:/b:", VolumeFault::Empty),
            ("/a:/b:ro:x", VolumeFault::Parts),
            ("/a:/", VolumeFault::Root),
            ("/a:/b/..", VolumeFault::Root),
            ("/a:/b:r0", VolumeFault::Option("r0".into())),
            ("/a:/b:ro,", VolumeFault::Option(String::new())),
            ("/a:/b:RO", VolumeFault::Option("RO".into())),
            ("/a:/b:Cached", VolumeFault::Option("Cached".into())),
            ("/a:/b:nocopy", VolumeFault::Option("nocopy".into())),
            ("/a:/b:z,Z", VolumeFault::Conflict("Z".into())),
            ("/a:/b:cached,delegated", VolumeFault::Conflict("delegated".into())),
            ("/a:/b:ro,ro", VolumeFault::Conflict("ro".into())),
            ("/a:/b:ro,rw", VolumeFault::Conflict("rw".into())),
            ("/a:/b:shared,slave", VolumeFault::Conflict("slave".into())),
            ("/a\0:/b", VolumeFault::Nul),
        ] {
            let error = text.parse::<Volume>().unwrap_err();
            assert_eq!(error.why, why, "{text}");
            assert!(error.hint().is_some());
        }
    }
}
