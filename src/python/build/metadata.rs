//! The metadata of a source that needs no build.

use ociforge_layers::source::wheel::{MetadataHeaders, normalize};
use pep440_rs::{Version, VersionSpecifiers};
use serde::Deserialize;

use super::error::SourceError;
use super::tree::SourceTree;
use crate::python::Python3Version;

/// The default backend (PEP 517) and its requirement (PEP 518).
const LEGACY: (&str, &str) = ("setuptools.build_meta:__legacy__", "setuptools>=40.8.0");
/// The headers that determine the dependencies of a package.
const DECISIVE: [&str; 4] = ["Version", "Requires-Dist", "Provides-Extra", "Requires-Python"];
/// The same keys in `[project]`.
const DECISIVE_KEYS: [&str; 4] = ["version", "dependencies", "optional-dependencies", "requires-python"];

/// The build system of a source: `[build-system]` of `pyproject.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BuildSystem {
    pub(super) requires: Vec<String>,
    /// The backend, as `module:object`.
    pub(super) backend: String,
    /// Directories of the source that contain the backend, relative to its top.
    pub(super) path: Vec<String>,
    /// Whether the source has no `[build-system]`.
    pub(super) legacy: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Pyproject {
    build_system: Option<PyprojectTable>,
    project: Option<Project>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PyprojectTable {
    requires: Vec<String>,
    build_backend: Option<String>,
    #[serde(default)]
    backend_path: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Project {
    name: String,
    version: Option<String>,
    requires_python: Option<String>,
    #[serde(default)]
    dynamic: Vec<String>,
    #[serde(default)]
    dependencies: Vec<String>,
    #[serde(default)]
    optional_dependencies: std::collections::BTreeMap<String, Vec<String>>,
}

fn pyproject(tree: &SourceTree) -> Result<Pyproject, SourceError> {
    let Some(text) = tree.text("pyproject.toml") else { return Ok(Pyproject::default()) };
    toml::from_str(&text).map_err(|error| SourceError::Pyproject(error.message().to_owned()))
}

impl BuildSystem {
    pub(super) fn of(tree: &SourceTree) -> Result<Self, SourceError> {
        let (backend, requirement) = (LEGACY.0.to_owned(), LEGACY.1.to_owned());
        let Some(table) = pyproject(tree)?.build_system else {
            return Ok(Self { requires: vec![requirement], backend, path: Vec::new(), legacy: true });
        };
        let outside = |path: &&String| path.starts_with('/') || path.split('/').any(|component| component == "..");
        if let Some(path) = table.backend_path.iter().find(outside) {
            return Err(SourceError::Pyproject(format!("backend-path has `{path}`, which leads out of the source")));
        }
        let backend = table.build_backend.unwrap_or(backend);
        Ok(Self { requires: table.requires, backend, path: table.backend_path, legacy: false })
    }
}

/// The metadata that affects dependencies; `None` if only a build can determine it.
pub(super) fn stated(tree: &SourceTree) -> Result<Option<String>, SourceError> {
    if let Some(text) = tree.text("PKG-INFO") {
        let headers = MetadataHeaders::parse(&text);
        let metadata_version = headers.get("Metadata-Version").and_then(|version| version.parse::<Version>().ok());
        let dynamic = |header: &&str| headers.all("Dynamic").any(|dynamic| dynamic.eq_ignore_ascii_case(header));
        // Before version 2.2 the metadata of a source and of its wheel may differ (PEP 643).
        if metadata_version >= Some(Version::new([2, 2])) && !DECISIVE.iter().any(dynamic) {
            return Ok(Some(text));
        }
    }
    Ok(pyproject(tree)?.project.and_then(Project::metadata))
}

impl Project {
    /// The metadata of a `[project]` table (PEP 621); `None` if a key that affects dependencies is dynamic.
    fn metadata(self) -> Option<String> {
        if DECISIVE_KEYS.iter().any(|key| self.dynamic.iter().any(|dynamic| dynamic == key)) {
            return None;
        }
        let extras = self.optional_dependencies.iter().flat_map(|(extra, list)| [extra].into_iter().chain(list));
        let values = [&self.name].into_iter().chain(&self.version).chain(&self.requires_python).chain(extras);
        // A line break in a value would start another header.
        if values.chain(&self.dependencies).any(|value| value.contains(['\n', '\r'])) {
            return None;
        }
        let mut text = format!("Metadata-Version: 2.2\nName: {}\nVersion: {}\n", self.name, self.version?);
        text += &self.requires_python.map(|python| format!("Requires-Python: {python}\n")).unwrap_or_default();
        for requirement in &self.dependencies {
            text += &format!("Requires-Dist: {requirement}\n");
        }
        for (extra, requirements) in &self.optional_dependencies {
            let extra = normalize(extra);
            text += &format!("Provides-Extra: {extra}\n");
            for requirement in requirements {
                text += &format!("Requires-Dist: {}\n", of_extra(requirement, &extra));
            }
        }
        Some(text)
    }
}

/// Limits a requirement to an extra.
fn of_extra(requirement: &str, extra: &str) -> String {
    // After a URL, only a semicolon with a space before it starts a marker (PEP 508).
    let split = if requirement.contains('@') { requirement.split_once(" ;") } else { requirement.split_once(';') };
    match split {
        Some((requirement, marker)) => format!("{} ; ({}) and extra == '{extra}'", requirement.trim(), marker.trim()),
        None => format!("{} ; extra == '{extra}'", requirement.trim()),
    }
}

/// The normalized name and the version in a package's metadata.
pub(super) fn name_and_version(metadata: &str) -> Result<(String, Version), SourceError> {
    let headers = MetadataHeaders::parse(metadata);
    let name = headers
        .get("Name")
        .map(normalize)
        .filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    let version = headers.get("Version").and_then(|version| version.parse().ok());
    name.zip(version).ok_or(SourceError::NoName)
}

/// Checks `Requires-Python` of a package's metadata.
pub(super) fn check_python(metadata: &str, python: Python3Version) -> Result<(), SourceError> {
    let headers = MetadataHeaders::parse(metadata);
    let Some(requires) = headers.get("Requires-Python") else { return Ok(()) };
    // As with pip, an invalid version specifier matches every version.
    let Ok(specifiers) = requires.parse::<VersionSpecifiers>() else { return Ok(()) };
    let patch = python.patch.map_or(u64::from(u16::MAX), u64::from);
    if specifiers.contains(&Version::new([3, u64::from(python.minor), patch])) {
        return Ok(());
    }
    Err(SourceError::Python { requires: requires.to_owned(), python: python.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::{archive, targz};
    use super::*;

    fn tree(members: &[(&str, &str)]) -> SourceTree {
        let place = tempfile::tempdir().unwrap();
        let named: Vec<(String, &str)> = members.iter().map(|(name, text)| (format!("a-1/{name}"), *text)).collect();
        let mut members: Vec<(&str, &str)> = named.iter().map(|(name, text)| (name.as_str(), *text)).collect();
        members.push(("a-1/setup.py", ""));
        let bytes = targz(&members);
        let path = place.path().join("x");
        std::fs::write(&path, &bytes).unwrap();
        SourceTree::of_sdist(&path, &archive("a-1.tar.gz", &bytes), place.path(), 0).unwrap()
    }

    #[test]
    fn build_systems() {
        let of = |text: &str| BuildSystem::of(&tree(&[("pyproject.toml", text)]));
        let legacy = BuildSystem::of(&tree(&[])).unwrap();
        assert_eq!((legacy.backend.as_str(), &legacy.requires[..]), (LEGACY.0, &[LEGACY.1.to_owned()][..]));
        assert_eq!(of("[tool.x]\ny = 1").unwrap(), legacy);
        let own = of("[build-system]\nrequires = ['a']\nbuild-backend = 'b:c'\nbackend-path = ['.', 'd']").unwrap();
        assert_eq!((own.backend.as_str(), own.requires.len(), own.path.len()), ("b:c", 1, 2));
        assert_eq!(of("[build-system]\nrequires = []").unwrap().backend, LEGACY.0);
        for bad in ["[build-system]", "=", "[build-system]\nrequires = []\nbackend-path = ['a/../..']"] {
            assert!(matches!(of(bad), Err(SourceError::Pyproject(_))), "{bad}");
        }
    }

    #[test]
    fn metadata_that_can_be_believed() {
        let info = "Metadata-Version: 2.2\nName: A\nVersion: 1\nRequires-Dist: six\n";
        assert_eq!(stated(&tree(&[("PKG-INFO", info)])).unwrap().as_deref(), Some(info));
        let project = "[project]\nname = 'a'\nversion = '1'\ndependencies = ['x>1']\n[project.optional-dependencies]\n\
                       Gpu_all = ['y; os_name == \"nt\" or os_name == \"posix\"', 'z @ https://h/z;x.whl']\n";
        let old = info.replace("2.2", "2.1");
        let text = stated(&tree(&[("PKG-INFO", &old), ("pyproject.toml", project)])).unwrap().unwrap();
        for line in [
            "Requires-Dist: x>1",
            "Provides-Extra: gpu-all",
            "Requires-Dist: y ; (os_name == \"nt\" or os_name == \"posix\") and extra == 'gpu-all'",
            "Requires-Dist: z @ https://h/z;x.whl ; extra == 'gpu-all'",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert_eq!(name_and_version(&text).unwrap(), ("a".into(), "1.0".parse().unwrap()));
    }

    #[test]
    fn metadata_that_only_a_build_tells() {
        let info = "Metadata-Version: 2.2\nName: A\nVersion: 1\nDynamic: requires-dist\n";
        let dynamic = "[project]\nname = 'a'\nversion = '1'\ndynamic = ['dependencies']\n";
        for members in [
            &[("PKG-INFO", info)][..],
            &[("pyproject.toml", dynamic)],
            &[("pyproject.toml", "[project]\nname = 'a'\n")],
            &[("pyproject.toml", "[project]\nname = 'a'\nversion = '1'\ndependencies = [\"x\\nName: b\"]\n")],
            &[],
        ] {
            assert_eq!(stated(&tree(members)).unwrap(), None, "{members:?}");
        }
        assert!(name_and_version("Name: a b\nVersion: 1").is_err() && name_and_version("Name: a").is_err());
    }

    #[test]
    fn pythons() {
        let python: Python3Version = "3.11.2".parse().unwrap();
        assert!(check_python("Requires-Python: >=3.8\n", python).is_ok() && check_python("", python).is_ok());
        assert!(matches!(check_python("Requires-Python: >=3.12\n", python), Err(SourceError::Python { .. })));
    }
}
