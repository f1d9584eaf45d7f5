//! `ociforge.lock`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ociforge_layers::index::NoEntry;
use ociforge_layers::source::wheel::normalize;
use ociforge_layers::{FileIndex, LayerPath, LockedFiles};
use ociforge_manifests::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::LockFileError;
use super::pin::{DistributionKind, Pin, Wrong};
use crate::python::{LockedSource, LockedWheel, SourceLocation};
use crate::store::blob::{linked, write_atomic};
use ociforge_layers::regular::read_regular_text;

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
    /// What has no wheel and is built.
    pub sources: Vec<SourceEntry>,
}

/// A base of one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedBase {
    /// `linux/amd64`, …
    pub platform: String,
    /// The name that the recipe gives.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// Those of its files that matter to where layers put theirs; `None` in locks of older versions, and where no layer
    /// puts any.
    pub files: Option<LockedFiles>,
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

/// A source and where the wheel that is built of it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceEntry {
    /// `linux/amd64`, …
    pub platform: String,
    /// The place of its layer in the recipe, the first being 0.
    pub layer: usize,
    /// The source, and what its build needs.
    pub source: LockedSource,
}

/// The file as TOML has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    version: u32,
    recipe: Digest,
    #[serde(default)]
    base: Vec<BaseRow>,
    #[serde(default)]
    wheel: Vec<Row>,
    // Left out where there are none, so that a lock of wheels only is what it always was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sdist: Vec<SdistRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    project: Vec<ProjectRow>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseRow {
    platform: String,
    name: String,
    digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    listed: Vec<String>,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SdistRow {
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
    #[serde(default)]
    requires: Vec<Pin>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectRow {
    name: String,
    platform: String,
    layer: usize,
    path: PathBuf,
    #[serde(default)]
    requires: Vec<Pin>,
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

    /// What is built for one layer on one platform, in the lock's order.
    pub fn sources_of(&self, platform: &str, layer: usize) -> impl Iterator<Item = &LockedSource> {
        let here = move |entry: &&SourceEntry| entry.platform == platform && entry.layer == layer;
        self.sources.iter().filter(here).map(|entry| &entry.source)
    }

    /// Reads a lock from a file; `None` where there is no file.
    ///
    /// # Errors
    /// When it can't be read or is no lock.
    pub fn read(path: &Path) -> Result<Option<Self>, LockFileError> {
        match read_regular_text(path) {
            Ok(text) => Self::parse(&text, path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LockFileError::Read { path: path.to_path_buf(), source }),
        }
    }

    /// Writes the lock, whole or not at all.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, path: &Path) -> Result<(), LockFileError> {
        let failed = |source| LockFileError::Write { path: path.to_path_buf(), source };
        let text = self.to_toml().map_err(|error| failed(io::Error::other(error)))?;
        write_atomic(&linked(path), text.as_bytes()).map_err(failed)
    }

    /// The lock's text: bases and wheels sorted.
    fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut base: Vec<BaseRow> = self.bases.iter().map(BaseRow::of).collect();
        base.sort();
        let mut wheel: Vec<Row> = self.wheels.iter().map(Row::of).collect();
        wheel.sort_by(|a, b| (&a.platform, a.layer, &a.name).cmp(&(&b.platform, b.layer, &b.name)));
        let mut sources: Vec<&SourceEntry> = self.sources.iter().collect();
        sources.sort_by_key(|entry| (&entry.platform, entry.layer, entry.source.name()));
        let sdist = sources.iter().filter_map(|entry| SdistRow::of(entry)).collect();
        let project = sources.iter().filter_map(|entry| ProjectRow::of(entry)).collect();
        let rows = Rows { version: VERSION, recipe: self.recipe.clone(), base, wheel, sdist, project };
        Ok(format!("{HEADER}{}", toml::to_string_pretty(&rows)?))
    }

    fn parse(text: &str, path: &Path) -> Result<Self, LockFileError> {
        let wrong = |at: usize, message: String| {
            let line = 1 + text.get(..at).unwrap_or_default().matches('\n').count();
            LockFileError::Form { path: path.to_path_buf(), line, message }
        };
        let version: LockFileVersion = toml::from_str(text).unwrap_or(LockFileVersion { version: VERSION });
        if version.version != VERSION {
            let at = text.find("version").unwrap_or(0);
            return Err(wrong(at, format!("version is {}; this ociforge reads {VERSION}", version.version)));
        }
        let rows: Rows = toml::from_str(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let named = |kind: &'static str| {
            move |(name, message): Wrong| {
                wrong(text.find(&format!("name = \"{name}\"")).unwrap_or(0), format!("{kind} {name}: {message}"))
            }
        };
        let base = |row: BaseRow| {
            row.entry().map_err(|NoEntry(entry)| {
                wrong(text.find(&entry).unwrap_or(0), format!("`{entry}` is no file of a base"))
            })
        };
        let bases = rows.base.into_iter().map(base).collect::<Result<_, _>>()?;
        let wheels: Result<Vec<_>, _> = rows.wheel.into_iter().map(Row::entry).collect();
        let sdists: Result<Vec<_>, _> = rows.sdist.into_iter().map(SdistRow::entry).collect();
        let projects: Result<Vec<_>, _> = rows.project.into_iter().map(ProjectRow::entry).collect();
        let mut sources = sdists.map_err(named("sdist"))?;
        sources.extend(projects.map_err(named("project"))?);
        Ok(Self { recipe: rows.recipe, bases, wheels: wheels.map_err(named("wheel"))?, sources })
    }
}

/// The one field that every version of the file has.
#[derive(Deserialize)]
struct LockFileVersion {
    version: u32,
}

impl BaseRow {
    fn of(LockedBase { platform, name, digest, files }: &LockedBase) -> Self {
        let lines = files.as_ref().map(|locked| locked.files.lines().map(str::to_owned).collect());
        let listed = files.iter().flat_map(|locked| &locked.listed).map(ToString::to_string).collect();
        Self { platform: platform.clone(), name: name.clone(), digest: digest.clone(), files: lines, listed }
    }

    fn entry(self) -> Result<LockedBase, NoEntry> {
        let Self { platform, name, digest, files, listed } = self;
        let listed = listed.into_iter().map(|path| LayerPath::new(&path).map_err(|_| NoEntry(path)));
        let listed = listed.collect::<Result<BTreeSet<_>, _>>()?;
        let files = files.map(|lines| FileIndex::parse(lines.iter().map(String::as_str))).transpose()?;
        let files = files.map(|files| LockedFiles { files, listed });
        Ok(LockedBase { platform, name, digest, files })
    }
}

impl Row {
    fn of(WheelEntry { platform, layer, wheel }: &WheelEntry) -> Self {
        let Pin { name, version, file, url, path, size, sha256 } = Pin::of(wheel);
        let (platform, layer, requested) = (platform.clone(), *layer, wheel.requested);
        Self { name, version, platform, layer, file, url, path, size, sha256, requested }
    }

    fn entry(self) -> Result<WheelEntry, Wrong> {
        let Self { name, version, platform, layer, file, url, path, size, sha256, requested } = self;
        let wheel = Pin { name, version, file, url, path, size, sha256 }.read(DistributionKind::Wheel, requested)?;
        Ok(WheelEntry { platform, layer, wheel })
    }
}

impl SdistRow {
    fn of(SourceEntry { platform, layer, source }: &SourceEntry) -> Option<Self> {
        let SourceLocation::Sdist(archive) = &source.origin else { return None };
        let Pin { name, version, file, url, path, size, sha256 } = Pin::of(archive);
        let (platform, layer, requested) = (platform.clone(), *layer, archive.requested);
        let requires = pins(&source.requires);
        Some(Self { name, version, platform, layer, file, url, path, size, sha256, requested, requires })
    }

    fn entry(self) -> Result<SourceEntry, Wrong> {
        let Self { name, version, platform, layer, file, url, path, size, sha256, requested, requires } = self;
        let archive = Pin { name, version, file, url, path, size, sha256 }.read(DistributionKind::Sdist, requested)?;
        let source = LockedSource { origin: SourceLocation::Sdist(archive), requires: wheels(requires)? };
        Ok(SourceEntry { platform, layer, source })
    }
}

impl ProjectRow {
    fn of(SourceEntry { platform, layer, source }: &SourceEntry) -> Option<Self> {
        let SourceLocation::Project { name, directory } = &source.origin else { return None };
        let (name, path, requires) = (name.clone(), directory.clone(), pins(&source.requires));
        Some(Self { name, platform: platform.clone(), layer: *layer, path, requires })
    }

    fn entry(self) -> Result<SourceEntry, Wrong> {
        let Self { name, platform, layer, path, requires } = self;
        if normalize(&name) != name {
            return Err((name, "`name` is not normalised"));
        }
        let source =
            LockedSource { origin: SourceLocation::Project { name, directory: path }, requires: wheels(requires)? };
        Ok(SourceEntry { platform, layer, source })
    }
}

fn pins(wheels: &[LockedWheel]) -> Vec<Pin> {
    let mut pins: Vec<Pin> = wheels.iter().map(Pin::of).collect();
    pins.sort_by(|a, b| a.name.cmp(&b.name));
    pins
}

/// What a build needs, none of which the user asked for.
fn wheels(pins: Vec<Pin>) -> Result<Vec<LockedWheel>, Wrong> {
    pins.into_iter().map(|pin| pin.read(DistributionKind::Wheel, false)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Location;

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
            layer,
            wheel: file(name, &format!("{name}-1.0-py3-none-any.whl"), location),
        };
        let base = |platform: &str| LockedBase {
            platform: platform.into(),
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
            wheels: vec![
                wheel("b", 2, "dist/b.whl"),
                wheel("z", 1, "https://u:p@h/z.whl"),
                wheel("a", 2, "https://h/a"),
            ],
            sources: Vec::new(),
        }
    }

    /// The same with an archive and a project.
    fn lock_of_sources() -> Lock {
        let pin = |name: &str| file(name, &format!("{name}-1.0-py3-none-any.whl"), "https://h/x");
        let entry = |layer, origin, requires| SourceEntry {
            platform: "linux/amd64".into(),
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
        let of = |layer| read.sources_of("linux/amd64", layer).map(LockedSource::name).collect::<Vec<_>>();
        assert_eq!((of(1), of(2), of(0)), (vec!["d"], vec!["my-app"], vec![]));
        assert_eq!(read.sources[0].source.requires.len(), 2);
        // A lock of wheels only has not a word of it.
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
            ("/root dir", "/root door", "`/root door 0700 0:0 5` is no file of a base"),
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
