//! The rows of pinned files in `ociforge.lock`.

use std::path::PathBuf;

use ociforge_layers::source::wheel::FileName;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::python::{ARCHIVES, Location, LockedWheel, same_version};

/// A row of a distribution file: its location, its size and its digest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) file: String,
    pub(super) url: Option<Url>,
    pub(super) path: Option<PathBuf>,
    pub(super) size: Option<u64>,
    pub(super) sha256: String,
}

/// The kind of the distribution file.
#[derive(Clone, Copy)]
pub(super) enum DistributionKind {
    Wheel,
    Sdist,
}

/// A package, and the fault of its entry.
pub(super) type RowFault = (String, &'static str);

impl Pin {
    pub(super) fn of(wheel: &LockedWheel) -> Self {
        let (url, path) = match &wheel.location {
            Location::Url(url) => (Some(without_credentials(url)), None),
            Location::Path(path) => (None, Some(path.clone())),
        };
        Self {
            name: wheel.name.clone(),
            version: wheel.version.clone(),
            file: wheel.file.clone(),
            url,
            path,
            size: wheel.size,
            sha256: wheel.sha256.hex().to_owned(),
        }
    }

    pub(super) fn read(self, kind: DistributionKind, requested: bool) -> Result<LockedWheel, RowFault> {
        let location = match (self.url, self.path) {
            (Some(url), None) if matches!(url.scheme(), "http" | "https") => Location::Url(url),
            (None, Some(path)) => Location::Path(path),
            _ => return Err((self.name, "it needs either a `url` (http, https) or a `path`")),
        };
        let Ok(sha256) = format!("sha256:{}", self.sha256).parse() else {
            return Err((self.name, "`sha256` is not 64 hex digits"));
        };
        match (kind, FileName::parse(&self.file)) {
            (DistributionKind::Wheel, Err(_)) => return Err((self.name, "`file` is not a wheel's file name")),
            (DistributionKind::Wheel, Ok(file))
                if file.name != self.name || !same_version(&file.version, &self.version) =>
            {
                return Err((self.name, "`name` and `version` are not those of `file`"));
            }
            (DistributionKind::Sdist, _) if !is_archive(&self.file) => {
                return Err((self.name, "`file` is not a source archive's file name"));
            }
            _ => {}
        }
        let Self { name, version, file, size, .. } = self;
        Ok(LockedWheel { name, version, file, location, size, sha256, requested })
    }
}

/// Whether the name is that of a source archive: one path component with a known extension.
fn is_archive(name: &str) -> bool {
    let suffix = ARCHIVES.iter().find(|suffix| name.ends_with(**suffix) && name.len() > suffix.len());
    suffix.is_some() && !name.contains(['/', '\0'])
}

/// Removes credentials: users commit the lock.
fn without_credentials(url: &Url) -> Url {
    let mut url = url.clone();
    // These fail only for URLs without a host, which cannot have credentials.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}
