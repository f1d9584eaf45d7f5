//! The text of `ociforge.lock`: TOML with one row for each base, image and package.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ociforge_layers::index::NoEntry;
use ociforge_layers::source::wheel::normalize;
use ociforge_layers::{FileIndex, LayerPath, LockedFiles};
use ociforge_manifests::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use super::error::LockFileError;
use super::file::{Lock, LockedBase, LockedImage, SourceEntry, WheelEntry};
use super::pin::{DistributionKind, Pin, RowFault};
use crate::python::{LockedSource, LockedWheel, SourceLocation};

const VERSION: u32 = 1;
const HEADER: &str = "# Made by `ociforge lock`. Commit it; don't edit it.\n\n";

/// The rows of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    version: u32,
    recipe: Digest,
    #[serde(default)]
    base: Vec<BaseRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    image: Vec<LockedImage>,
    #[serde(default)]
    wheel: Vec<Row>,
    // Omitted when empty, so that locks of wheels only keep the text of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sdist: Vec<SdistRow>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    project: Vec<ProjectRow>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseRow {
    platform: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    layer: usize,
    path: PathBuf,
    #[serde(default)]
    requires: Vec<Pin>,
}

impl Lock {
    /// The text of the lock, with sorted rows.
    pub(super) fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let mut base: Vec<BaseRow> = self.bases.iter().map(BaseRow::of).collect();
        base.sort();
        let mut wheel: Vec<Row> = self.wheels.iter().map(Row::of).collect();
        wheel.sort_by(|a, b| (&a.platform, &a.stage, a.layer, &a.name).cmp(&(&b.platform, &b.stage, b.layer, &b.name)));
        let mut image = self.images.clone();
        image.sort();
        image.dedup();
        let mut sources: Vec<&SourceEntry> = self.sources.iter().collect();
        sources.sort_by_key(|entry| (&entry.platform, &entry.stage, entry.layer, entry.source.name()));
        let sdist = sources.iter().filter_map(|entry| SdistRow::of(entry)).collect();
        let project = sources.iter().filter_map(|entry| ProjectRow::of(entry)).collect();
        let rows = Rows { version: VERSION, recipe: self.recipe.clone(), base, image, wheel, sdist, project };
        Ok(format!("{HEADER}{}", toml::to_string_pretty(&rows)?))
    }

    /// Reads the text of the lock at `path`.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, LockFileError> {
        let wrong = |at: usize, message: String| {
            let line = 1 + text.get(..at).unwrap_or_default().matches('\n').count();
            LockFileError::Form { path: path.to_path_buf(), line, message }
        };
        let version: LockFileVersion = toml::from_str(text).unwrap_or(LockFileVersion { version: VERSION });
        if version.version != VERSION {
            let at = text.find("version").unwrap_or(0);
            return Err(wrong(
                at,
                format!("version is {}; this version of ociforge supports only {VERSION}", version.version),
            ));
        }
        let rows: Rows = toml::from_str(text)
            .map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let named = |kind: &'static str| {
            move |(name, message): RowFault| {
                wrong(text.find(&format!("name = \"{name}\"")).unwrap_or(0), format!("{kind} {name}: {message}"))
            }
        };
        let base = |row: BaseRow| {
            row.entry().map_err(|NoEntry(entry)| {
                wrong(text.find(&entry).unwrap_or(0), format!("`{entry}` is not a valid entry of a base file"))
            })
        };
        let bases = rows.base.into_iter().map(base).collect::<Result<_, _>>()?;
        let wheels: Result<Vec<_>, _> = rows.wheel.into_iter().map(Row::entry).collect();
        let sdists: Result<Vec<_>, _> = rows.sdist.into_iter().map(SdistRow::entry).collect();
        let projects: Result<Vec<_>, _> = rows.project.into_iter().map(ProjectRow::entry).collect();
        let mut sources = sdists.map_err(named("sdist"))?;
        sources.extend(projects.map_err(named("project"))?);
        Ok(Self { recipe: rows.recipe, bases, images: rows.image, wheels: wheels.map_err(named("wheel"))?, sources })
    }
}

/// The one field that all versions of the file have.
#[derive(Deserialize)]
struct LockFileVersion {
    version: u32,
}

impl BaseRow {
    fn of(LockedBase { platform, stage, name, digest, files }: &LockedBase) -> Self {
        let lines = files.as_ref().map(|locked| locked.files.lines().map(str::to_owned).collect());
        let listed = files.iter().flat_map(|locked| &locked.listed).map(ToString::to_string).collect();
        let (platform, stage) = (platform.clone(), stage.clone());
        Self { platform, stage, name: name.clone(), digest: digest.clone(), files: lines, listed }
    }

    fn entry(self) -> Result<LockedBase, NoEntry> {
        let Self { platform, stage, name, digest, files, listed } = self;
        let listed = listed.into_iter().map(|path| LayerPath::new(&path).map_err(|_| NoEntry(path)));
        let listed = listed.collect::<Result<BTreeSet<_>, _>>()?;
        let files = files.map(|lines| FileIndex::parse(lines.iter().map(String::as_str))).transpose()?;
        let files = files.map(|files| LockedFiles { files, listed });
        Ok(LockedBase { platform, stage, name, digest, files })
    }
}

impl Row {
    fn of(WheelEntry { platform, stage, layer, wheel }: &WheelEntry) -> Self {
        let Pin { name, version, file, url, path, size, sha256 } = Pin::of(wheel);
        let (platform, stage, layer, requested) = (platform.clone(), stage.clone(), *layer, wheel.requested);
        Self { name, version, platform, stage, layer, file, url, path, size, sha256, requested }
    }

    fn entry(self) -> Result<WheelEntry, RowFault> {
        let Self { name, version, platform, stage, layer, file, url, path, size, sha256, requested } = self;
        let wheel = Pin { name, version, file, url, path, size, sha256 }.read(DistributionKind::Wheel, requested)?;
        Ok(WheelEntry { platform, stage, layer, wheel })
    }
}

impl SdistRow {
    fn of(SourceEntry { platform, stage, layer, source }: &SourceEntry) -> Option<Self> {
        let SourceLocation::Sdist(archive) = &source.origin else { return None };
        let Pin { name, version, file, url, path, size, sha256 } = Pin::of(archive);
        let (platform, stage, layer, requested) = (platform.clone(), stage.clone(), *layer, archive.requested);
        let requires = pins(&source.requires);
        Some(Self { name, version, platform, stage, layer, file, url, path, size, sha256, requested, requires })
    }

    fn entry(self) -> Result<SourceEntry, RowFault> {
        let Self { name, version, platform, stage, layer, file, url, path, size, sha256, requested, requires } = self;
        let archive = Pin { name, version, file, url, path, size, sha256 }.read(DistributionKind::Sdist, requested)?;
        let source = LockedSource { origin: SourceLocation::Sdist(archive), requires: wheels(requires)? };
        Ok(SourceEntry { platform, stage, layer, source })
    }
}

impl ProjectRow {
    fn of(SourceEntry { platform, stage, layer, source }: &SourceEntry) -> Option<Self> {
        let SourceLocation::Project { name, directory } = &source.origin else { return None };
        let (name, path, requires) = (name.clone(), directory.clone(), pins(&source.requires));
        Some(Self { name, platform: platform.clone(), stage: stage.clone(), layer: *layer, path, requires })
    }

    fn entry(self) -> Result<SourceEntry, RowFault> {
        let Self { name, platform, stage, layer, path, requires } = self;
        if normalize(&name) != name {
            return Err((name, "`name` is not normalised"));
        }
        let source =
            LockedSource { origin: SourceLocation::Project { name, directory: path }, requires: wheels(requires)? };
        Ok(SourceEntry { platform, stage, layer, source })
    }
}

fn pins(wheels: &[LockedWheel]) -> Vec<Pin> {
    let mut pins: Vec<Pin> = wheels.iter().map(Pin::of).collect();
    pins.sort_by(|a, b| a.name.cmp(&b.name));
    pins
}

/// The build requirements of a source. The user requested none of them.
fn wheels(pins: Vec<Pin>) -> Result<Vec<LockedWheel>, RowFault> {
    pins.into_iter().map(|pin| pin.read(DistributionKind::Wheel, false)).collect()
}
