//! Source archives and projects in the resolution.
//!
//! uv runs a package's code to determine the requirements of a source archive. So uv is never allowed to build. It gets
//! a stub wheel with only metadata in place of each archive: at first only with name and version, later with the
//! metadata that the sandbox determined.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use ociforge_layers::source::wheel::normalize;
use pep440_rs::{Version, VersionSpecifiers};

use super::stubs::write_wheel;
use crate::python::wheel::LockedWheel;

/// The metadata headers that affect a resolution.
const RELEVANT_HEADERS: [&str; 3] = ["Requires-Dist:", "Provides-Extra:", "Requires-Python:"];
/// Maximum number of versions of a package to try, except versions that a requirement pins.
const MAX_STEPS: usize = 8;

/// The known sources.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    known: BTreeMap<(String, Version), KnownSource>,
}

#[derive(Debug, Clone)]
struct KnownSource {
    /// `None` for a project.
    archive: Option<LockedWheel>,
    /// Its metadata, once known.
    metadata: Option<String>,
}

/// A package without usable wheels, from uv's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageWithoutWheel {
    pub(super) name: String,
    /// The versions that uv searched for.
    versions: Vec<VersionSpecifiers>,
}

impl Sources {
    /// Adds a project, which has only this version.
    pub fn add_project(&mut self, name: &str, version: &Version, metadata: &str) {
        let project = KnownSource { archive: None, metadata: Some(metadata.to_owned()) };
        self.known.insert((normalize(name), version.clone()), project);
    }

    /// Records the metadata of an archive. Ignores archives that were not added.
    pub fn learn(&mut self, archive: &LockedWheel, metadata: &str) {
        let known = self.known.values_mut().find(|known| known.archive.as_ref().is_some_and(|a| same(a, archive)));
        if let Some(known) = known {
            known.metadata = Some(metadata.to_owned());
        }
    }

    /// Whether the metadata of an archive is known.
    #[must_use]
    pub fn knows(&self, archive: &LockedWheel) -> bool {
        self.known.values().any(|k| k.metadata.is_some() && k.archive.as_ref().is_some_and(|a| same(a, archive)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Adds an archive of an index; `false` if it already exists, or its version is invalid.
    pub(super) fn add(&mut self, archive: LockedWheel) -> bool {
        let Ok(version) = Version::from_str(&archive.version) else { return false };
        let key = (archive.name.clone(), version);
        let new = !self.known.contains_key(&key);
        if new {
            self.known.insert(key, KnownSource { archive: Some(archive), metadata: None });
        }
        new
    }

    /// The archive behind the stub wheel that uv chose; `Some(None)` for a project.
    pub(super) fn behind(&self, name: &str, version: &str) -> Option<Option<&LockedWheel>> {
        let key = (name.to_owned(), Version::from_str(version).ok()?);
        self.known.get(&key).map(|known| known.archive.as_ref())
    }

    /// The names of the projects.
    pub(super) fn projects(&self) -> impl Iterator<Item = &str> {
        self.known.iter().filter(|(_, known)| known.archive.is_none()).map(|((name, _), _)| name.as_str())
    }

    /// The requirements to query the index with for a package, in the order of the attempts.
    pub(super) fn questions(&self, wanted: &PackageWithoutWheel) -> Vec<String> {
        let PackageWithoutWheel { name, versions } = wanted;
        let of_it = self.known.keys().filter(|(known, _)| known == name);
        let mut questions: Vec<String> = versions.iter().map(|versions| format!("{name}{versions}")).collect();
        match of_it.clone().map(|(_, version)| version).min() {
            None => questions.push(name.clone()),
            Some(lowest) if of_it.count() < MAX_STEPS => questions.push(format!("{name}<{lowest}")),
            Some(_) => {}
        }
        questions
    }

    /// Writes a stub wheel for each source into `directory`.
    pub(super) fn write_wheels(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        for ((name, version), known) in &self.known {
            let stem = format!("{}-{version}", name.replace('-', "_"));
            let mut metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
            let told = known.metadata.as_deref().unwrap_or_default().lines().take_while(|line| !line.is_empty());
            for line in told.filter(|line| RELEVANT_HEADERS.iter().any(|header| line.starts_with(header))) {
                metadata += &format!("{line}\n");
            }
            write_wheel(&directory.join(format!("{stem}-py3-none-any.whl")), &stem, &metadata)?;
        }
        Ok(())
    }
}

fn same(a: &LockedWheel, b: &LockedWheel) -> bool {
    a.name == b.name && a.sha256 == b.sha256
}

/// The packages without usable wheels in uv's message, with the versions it names.
pub(super) fn wanted(said: &str) -> Vec<PackageWithoutWheel> {
    let names = said.split("Wheels are required for `").skip(1).filter_map(|rest| rest.split('`').next());
    let mut all: Vec<PackageWithoutWheel> = Vec::new();
    for name in names.map(normalize) {
        if all.iter().all(|wanted| wanted.name != name) {
            let versions = versions_of(&name, said);
            all.push(PackageWithoutWheel { name, versions });
        }
    }
    all
}

/// The version specifiers after the name and before `has no usable wheels`.
fn versions_of(name: &str, said: &str) -> Vec<VersionSpecifiers> {
    let mut found = Vec::new();
    for (at, _) in said.match_indices(" no usable wheels") {
        let words = said[..at].split_whitespace().rev().skip(1);
        let lists = words.take_while(|word| !matches!(*word, "Because" | "that" | "because"));
        let specifiers = lists.filter_map(|word| word.trim_end_matches(',').strip_prefix(name));
        found.extend(specifiers.filter(|text| !text.is_empty()).filter_map(|text| text.parse().ok()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::Location;
    use ociforge_manifests::Digest;

    fn archive(version: &str) -> LockedWheel {
        LockedWheel {
            name: "a-b".into(),
            version: version.into(),
            file: format!("a_b-{version}.tar.gz"),
            location: Location::Path("x".into()),
            size: None,
            sha256: Digest::of(version.as_bytes()),
            requested: false,
        }
    }

    #[test]
    fn what_uv_complains_of() {
        let said = "Because a-b>=4.9,<=4.9.3 has no usable wheels and only the following versions of a-b are available:\n\
                    a-b<4.9.dev0\nhint: Wheels are required for `A_b` because building from source is disabled\n\
                    hint: Wheels are required for `other` because";
        let [first, second] = &wanted(said)[..] else { panic!("{:?}", wanted(said)) };
        assert_eq!((first.name.as_str(), second.name.as_str()), ("a-b", "other"));
        assert_eq!(first.versions, [">=4.9,<=4.9.3".parse().unwrap()]);
        assert!(second.versions.is_empty() && wanted("no solution").is_empty());
        assert_eq!(Sources::default().questions(first), ["a-b>=4.9, <=4.9.3", "a-b"]);
    }

    #[test]
    fn what_is_known_of_an_archive() {
        let mut sources = Sources::default();
        assert!(sources.add(archive("1.0")) && !sources.add(archive("1.0")) && !sources.add(archive("x y")));
        assert!(!sources.knows(&archive("1.0")));
        sources.learn(&archive("1.0"), "Name: a-b\nRequires-Dist: six\nSummary: x\n\nRequires-Dist: body\n");
        assert!(sources.knows(&archive("1.0")) && !sources.knows(&archive("2.0")));
        assert_eq!(sources.behind("a-b", "1.0.0").unwrap().unwrap().version, "1.0");
        let wanted = PackageWithoutWheel { name: "a-b".into(), versions: vec![] };
        assert_eq!(sources.questions(&wanted), ["a-b<1.0"]);
        let directory = tempfile::tempdir().unwrap();
        sources.write_wheels(directory.path()).unwrap();
        let wheel = ociforge_layers::source::wheel::Wheel::open(&directory.path().join("a_b-1.0-py3-none-any.whl"));
        assert_eq!(wheel.unwrap().metadata().all("Requires-Dist").collect::<Vec<_>>(), ["six"]);
    }
}
