//! `ociforge.lock`.

use std::io;
use std::path::{Path, PathBuf};

use ociforge_layers::source::wheel::FileName;
use ociforge_manifests::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::LockError;
use super::wheel::{Location, LockedWheel, same_version};
use crate::store::blob::write_atomic;

const VERSION: u32 = 1;
const HEADER: &str = "# Made by `ociforge lock`. Commit it; don't edit it.\n\n";

/// What a recipe's names meant when it was locked. The same lock is always written as the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The digest of the recipe that it belongs to.
    pub recipe: Digest,
    /// The bases, one for each platform.
    pub bases: Vec<LockedBase>,
    /// The wheels.
    pub wheels: Vec<WheelEntry>,
}

/// A base of one platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedBase {
    /// `linux/amd64`, …
    pub platform: String,
    /// The name that the recipe gives.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
}

/// A wheel and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelEntry {
    /// `linux/amd64`, …
    pub platform: String,
    /// The place of its layer in the recipe, the first being 0.
    pub layer: usize,
    /// The wheel.
    pub wheel: LockedWheel,
}

/// The file as TOML has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    version: u32,
    recipe: Digest,
    #[serde(default)]
    base: Vec<LockedBase>,
    #[serde(default)]
    wheel: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    version: String,
    platform: String,
    layer: usize,
    file: String,
    url: Option<Url>,
    path: Option<PathBuf>,
    size: Option<u64>,
    sha256: String,
    #[serde(default)]
    requested: bool,
}

impl Lock {
    /// Whether the lock was made for the recipe of this digest.
    #[must_use]
    pub fn fits(&self, recipe: &Digest) -> bool {
        self.recipe == *recipe
    }

    /// The wheels of one layer on one platform, in the lock's order.
    pub fn wheels_of(&self, platform: &str, layer: usize) -> impl Iterator<Item = &LockedWheel> {
        let here = move |entry: &&WheelEntry| entry.platform == platform && entry.layer == layer;
        self.wheels.iter().filter(here).map(|entry| &entry.wheel)
    }

    /// Reads a lock from a file; `None` where there is no file.
    ///
    /// # Errors
    /// When it can't be read or is no lock.
    pub fn read(path: &Path) -> Result<Option<Self>, LockError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockError::read(path, source)),
        }
    }

    /// Writes the lock, whole or not at all.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), LockError> {
        let failed = |source| LockError::Write { path: path.to_path_buf(), source };
        let text = self.to_toml().map_err(|error| failed(io::Error::other(error)))?;
        write_atomic(path, text.as_bytes()).map_err(failed)
    }

    /// The lock's text: bases and wheels sorted.
    fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut base = self.bases.clone();
        base.sort();
        let mut wheel: Vec<Row> = self.wheels.iter().map(Row::of).collect();
        wheel.sort_by(|a, b| (&a.platform, a.layer, &a.name).cmp(&(&b.platform, b.layer, &b.name)));
        let rows = Rows { version: VERSION, recipe: self.recipe.clone(), base, wheel };
        Ok(format!("{HEADER}{}", toml::to_string(&rows)?))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        let wrong = |at: usize, message: String| {
            let line = 1 + text.get(..at).unwrap_or_default().matches('\n').count();
            LockError::LockFile { path: path.to_path_buf(), line, message }
        };
        let version: Version = toml::from_str(text).unwrap_or(Version { version: VERSION });
        if version.version != VERSION {
            let at = text.find("version").unwrap_or(0);
            return Err(wrong(at, format!("version is {}; this ociforge reads {VERSION}", version.version)));
        }
        let rows: Rows = toml::from_str(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let wheels: Result<Vec<_>, _> = rows.wheel.into_iter().map(Row::entry).collect();
        let wheels = wheels.map_err(|(name, message)| {
            wrong(text.find(&format!("name = \"{name}\"")).unwrap_or(0), format!("wheel {name}: {message}"))
        })?;
        Ok(Self { recipe: rows.recipe, bases: rows.base, wheels })
    }
}

/// The one field that every version of the file has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Row {
    fn of(entry: &WheelEntry) -> Self {
        let wheel = &entry.wheel;
        let (url, path) = match &wheel.location {
            Location::Url(url) => (Some(without_credentials(url)), None),
            Location::Path(path) => (None, Some(path.clone())),
        };
        Self {
            name: wheel.name.clone(),
            version: wheel.version.clone(),
            platform: entry.platform.clone(),
            layer: entry.layer,
            file: wheel.file.clone(),
            url,
            path,
            size: wheel.size,
            sha256: wheel.sha256.hex().to_owned(),
            requested: wheel.requested,
        }
    }

    /// The entry, or the wheel's name and what is wrong with it.
    fn entry(self) -> Result<WheelEntry, (String, &'static str)> {
        let location = match (self.url, self.path) {
            (Some(url), None) if matches!(url.scheme(), "http" | "https") => Location::Url(url),
            (None, Some(path)) => Location::Path(path),
            _ => return Err((self.name, "it needs either a `url` (http, https) or a `path`")),
        };
        let Ok(sha256) = format!("sha256:{}", self.sha256).parse() else {
            return Err((self.name, "`sha256` is not 64 hex digits"));
        };
        let Ok(file) = FileName::parse(&self.file) else {
            return Err((self.name, "`file` is not a wheel's file name"));
        };
        if file.name != self.name || !same_version(&file.version, &self.version) {
            return Err((self.name, "`name` and `version` are not those of `file`"));
        }
        let wheel = LockedWheel {
            name: self.name,
            version: self.version,
            file: self.file,
            location,
            size: self.size,
            sha256,
            requested: self.requested,
        };
        Ok(WheelEntry { platform: self.platform, layer: self.layer, wheel })
    }
}

/// A lock is committed; credentials are not.
fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // These fail only for URLs without a host, which have no credentials either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock() -> Lock {
        let wheel = |name: &str, layer, location: &str| WheelEntry {
            platform: "linux/amd64".into(),
            layer,
            wheel: LockedWheel {
                name: name.into(),
                version: "1.0".into(),
                file: format!("{name}-1.0-py3-none-any.whl"),
                location: Location::of_url(location).unwrap_or(Location::Path(location.into())),
                size: location.starts_with("http").then_some(7),
                sha256: Digest::of(name.as_bytes()),
                requested: name == "a",
            },
        };
        let base = |platform: &str| LockedBase {
            platform: platform.into(),
            name: "oci:base:latest".into(),
            digest: Digest::of(platform.as_bytes()),
        };
        Lock {
            recipe: Digest::of(b"recipe"),
            bases: vec![base("linux/arm64"), base("linux/amd64")],
            wheels: vec![
                wheel("b", 2, "dist/b.whl"),
                wheel("z", 1, "https://u:p@h/z.whl"),
                wheel("a", 2, "https://h/a"),
            ],
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
        assert_eq!(read.wheels_of("linux/amd64", 2).count(), 2);
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
