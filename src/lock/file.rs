//! `ociforge.lock`.

use std::io;
use std::path::Path;

use ociforge_layers::LockedFiles;
use ociforge_layers::regular::read_regular_text;
use ociforge_manifests::Digest;
use serde::{Deserialize, Serialize};

use super::error::LockFileError;
use crate::python::{LockedSource, LockedWheel};
use crate::store::blob::{linked, write_atomic};

/// The resolved names of a recipe. The same lock is always written as the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The digest of the recipe.
    pub recipe: Digest,
    /// The bases, one for each platform and each stage that has an image as its base.
    pub bases: Vec<LockedBase>,
    /// The images that stages copy from.
    pub images: Vec<LockedImage>,
    /// The wheels.
    pub wheels: Vec<WheelEntry>,
    /// Source distributions, which ociforge builds.
    pub sources: Vec<SourceEntry>,
}

/// A base for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedBase {
    /// `linux/amd64`, …
    pub platform: String,
    /// The name of the stage; `None` is the stage that makes the image.
    pub stage: Option<String>,
    /// The name that the recipe gives.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The base's files at the paths that layers write. `None` in locks of older versions, and where no layer writes
    /// files.
    pub files: Option<LockedFiles>,
}

/// An image that stages copy from, for one platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// `linux/amd64`, …
    pub platform: String,
    /// The name that the recipe gives.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
}

/// A wheel, and the layer that installs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelEntry {
    /// `linux/amd64`, …
    pub platform: String,
    /// The name of the stage; `None` is the stage that makes the image.
    pub stage: Option<String>,
    /// The place of its layer in the stage, the first being 0.
    pub layer: usize,
    /// The wheel.
    pub wheel: LockedWheel,
}

/// A source distribution, and the layer that installs its wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// `linux/amd64`, …
    pub platform: String,
    /// The name of the stage; `None` is the stage that makes the image.
    pub stage: Option<String>,
    /// The place of its layer in the stage, the first being 0.
    pub layer: usize,
    /// The source, and the packages that its build requires.
    pub source: LockedSource,
}

impl Lock {
    /// Whether the lock was made for the recipe of this digest.
    #[must_use]
    pub fn fits(&self, recipe: &Digest) -> bool {
        self.recipe == *recipe
    }

    /// The base of a stage on one platform.
    #[must_use]
    pub fn base_of(&self, platform: &str, stage: Option<&str>) -> Option<&LockedBase> {
        self.bases.iter().find(|base| base.platform == platform && base.stage.as_deref() == stage)
    }

    /// An image that stages copy from, by the name that the recipe gives.
    #[must_use]
    pub fn image(&self, platform: &str, name: &str) -> Option<&LockedImage> {
        self.images.iter().find(|image| image.platform == platform && image.name == name)
    }

    /// The wheels of one layer of a stage on one platform, in the lock's order.
    pub fn wheels_of(&self, platform: &str, stage: Option<&str>, layer: usize) -> impl Iterator<Item = &LockedWheel> {
        let here = move |entry: &&WheelEntry| {
            (&*entry.platform, entry.stage.as_deref(), entry.layer) == (platform, stage, layer)
        };
        self.wheels.iter().filter(here).map(|entry| &entry.wheel)
    }

    /// The sources to build for one layer of a stage on one platform, in the lock's order.
    pub fn sources_of(&self, platform: &str, stage: Option<&str>, layer: usize) -> impl Iterator<Item = &LockedSource> {
        let here = move |entry: &&SourceEntry| {
            (&*entry.platform, entry.stage.as_deref(), entry.layer) == (platform, stage, layer)
        };
        self.sources.iter().filter(here).map(|entry| &entry.source)
    }

    /// Reads a lock from a file; `None` if the file does not exist.
    ///
    /// # Errors
    /// When the file cannot be read or is not a valid lock.
    pub fn read(path: &Path) -> Result<Option<Self>, LockFileError> {
        match read_regular_text(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockFileError::Read { path: path.to_path_buf(), source }),
        }
    }

    /// Writes the lock atomically.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LockFileError> {
        let failed = |source| LockFileError::Write { path: path.to_path_buf(), source };
        let text = self.to_toml().map_err(|error| failed(io::Error::other(error)))?;
        write_atomic(&linked(path), text.as_bytes()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use ociforge_layers::FileIndex;

    use super::*;
    use crate::python::{Location, SourceLocation};

    fn file(name: &str, file: &str, location: &str) -> LockedWheel {
        LockedWheel {
            name: name.into(),
            version: "1.0".into(),
            file: file.into(),
            location: Location::of_url(location).unwrap_or(Location::Path(location.into())),
            size: location.starts_with("http").then_some(7),
            sha256: Digest::of(name.as_bytes()),
            requested: name == "a",
        }
    }

    fn lock() -> Lock {
        let wheel = |name: &str, layer, location: &str| WheelEntry {
            platform: "linux/amd64".into(),
            stage: None,
            layer,
            wheel: file(name, &format!("{name}-1.0-py3-none-any.whl"), location),
        };
        let base = |platform: &str| LockedBase {
            platform: platform.into(),
            stage: None,
            name: "oci:base:latest".into(),
            digest: Digest::of(platform.as_bytes()),
            files: (platform == "linux/amd64").then(|| LockedFiles {
                files: FileIndex::parse(["/root dir 0700 0:0 5", "/bin link usr/bin"]).unwrap(),
                listed: ["usr/local/bin", "opt"].map(|path| path.parse().unwrap()).into(),
            }),
        };
        Lock {
            recipe: Digest::of(b"recipe"),
            bases: vec![base("linux/arm64"), base("linux/amd64")],
            images: Vec::new(),
            wheels: vec![
                wheel("b", 2, "dist/b.whl"),
                wheel("z", 1, "https://u:p@h/z.whl"),
                wheel("a", 2, "https://h/a"),
            ],
            sources: Vec::new(),
        }
    }

    /// A lock that also has an archive and a project as sources.
    fn lock_of_sources() -> Lock {
        let pin = |name: &str| file(name, &format!("{name}-1.0-py3-none-any.whl"), "https://h/x");
        let entry = |layer, origin, requires| SourceEntry {
            platform: "linux/amd64".into(),
            stage: None,
            layer,
            source: LockedSource { origin, requires },
        };
        let archive = file("d", "D-1.0.tar.gz", "https://u:p@h/D-1.0.tar.gz");
        let project = SourceLocation::Project { name: "my-app".into(), directory: ".".into() };
        let sources = vec![
            entry(2, project, vec![pin("hatchling")]),
            entry(1, SourceLocation::Sdist(archive), vec![pin("wheel"), pin("setuptools")]),
        ];
        Lock { sources, ..lock() }
    }

    #[test]
    fn sources_are_pinned_with_what_builds_them() {
        let text = lock_of_sources().to_toml().unwrap();
        assert!(text.contains("[[sdist.requires]]\nname = \"setuptools\"") && !text.contains("u:p"), "{text}");
        let read = Lock::parse(&text, Path::new("ociforge.lock")).unwrap();
        assert_eq!(read.to_toml().unwrap(), text);
        let of = |layer| read.sources_of("linux/amd64", None, layer).map(LockedSource::name).collect::<Vec<_>>();
        assert_eq!((of(1), of(2), of(0)), (vec!["d"], vec!["my-app"], vec![]));
        assert_eq!(read.sources[0].source.requires.len(), 2);
        // A lock of wheels only has no field of sources.
        let before = lock().to_toml().unwrap();
        assert!(!before.contains("sdist") && !before.contains("project") && text.starts_with(&before[..200]));
        for (old, new, expected) in [
            ("D-1.0.tar.gz", "D-1.0.rpm", "sdist d: `file` is not a source archive's"),
            ("file = \"D-1.0.tar.gz\"", "file = \"../D-1.0.tar.gz\"", "sdist d: `file` is not a source archive's"),
            ("setuptools-1.0-py3", "setuptools-1.1-py3", "sdist setuptools: `name` and `version`"),
            ("name = \"my-app\"", "name = \"My.App\"", "project My.App: `name` is not normalised"),
            ("path = \".\"", "", "missing field `path`"),
        ] {
            let broken = if old.starts_with("D-") { text.replace(old, new) } else { text.replacen(old, new, 1) };
            assert_ne!(broken, text, "{old}");
            let message = Lock::parse(&broken, Path::new("ociforge.lock")).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn there_and_back_in_one_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ociforge.lock");
        assert_eq!(Lock::read(&path).unwrap(), None);
        lock().write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# Made by `ociforge lock`") && !text.contains("u:p"), "{text}");
        let read = Lock::read(&path).unwrap().unwrap();
        assert!(read.fits(&Digest::of(b"recipe")) && !read.fits(&Digest::of(b"other")));
        let names: Vec<&str> = read.wheels.iter().map(|entry| entry.wheel.name.as_str()).collect();
        assert_eq!(names, ["z", "a", "b"]);
        assert_eq!(read.wheels_of("linux/amd64", None, 2).count(), 2);
        assert_eq!(read.to_toml().unwrap(), text);
        let mut shuffled = lock();
        shuffled.wheels.rotate_left(1);
        shuffled.bases.reverse();
        assert_eq!(shuffled.to_toml().unwrap(), text);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = lock().to_toml().unwrap();
        let message = |text: &str| Lock::parse(text, Path::new("ociforge.lock")).unwrap_err().to_string();
        for (old, new, expected) in [
            ("version = 1", "version = 2", "ociforge.lock:3: version is 2"),
            ("requested = true", "requsted = true", "unknown field `requsted`"),
            ("path = \"dist/b.whl\"", "url = \"ftp://h/x\"", "wheel b: it needs either"),
            ("b-1.0-py3-none-any.whl", "../b.whl", "wheel b: `file`"),
            ("b-1.0-py3-none-any.whl", "b-1.1-py3-none-any.whl", "wheel b: `name` and `version`"),
            ("recipe = \"sha256:", "recipe = \"", "is not a digest"),
            ("/root dir", "/root door", "`/root door 0700 0:0 5` is not a valid entry of a base file"),
            ("[[wheel]]", "[[wheel]", "ociforge.lock:"),
        ] {
            let broken = good.replacen(old, new, 1);
            assert_ne!(broken, good, "{old}");
            let message = message(&broken);
            assert!(message.contains(expected) && message.starts_with("ociforge.lock:"), "{message}");
        }
        assert!(message("").contains("missing field"));
    }
}
