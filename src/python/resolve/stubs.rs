//! The base's distributions as input of a resolver: stub wheels with only metadata, pins and preferences.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use ociforge_layers::source::wheel::normalize;
use ociforge_manifests::Digest;
use pep440_rs::Version;
use pep508_rs::{MarkerEnvironment, Requirement, VersionOrUrl};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::pep508;
use super::requirements::{NamedRequirement, excluded};
use crate::base::facts::{BaseFacts, InstalledDistribution};

/// The distributions of a base, for the resolver.
pub(super) struct Stubs<'a> {
    /// By normalised name; without those whose version is invalid (PEP 440).
    installed: BTreeMap<String, (Version, &'a InstalledDistribution)>,
    constraints: &'a str,
}

impl<'a> Stubs<'a> {
    pub(super) fn of(facts: &'a BaseFacts) -> Self {
        let versioned = facts.distributions.iter().filter_map(|distribution| {
            let version = Version::from_str(&distribution.version).ok()?;
            let name = distribution.normalized_name();
            is_name(&name).then_some((name, (version, distribution)))
        });
        Self { installed: versioned.collect(), constraints: facts.constraints.as_deref().unwrap_or_default() }
    }

    /// The same without the distributions of these names.
    pub(super) fn without<'n>(mut self, names: impl Iterator<Item = &'n str>) -> Self {
        names.for_each(|name| drop(self.installed.remove(name)));
        self
    }

    /// Writes a stub wheel for each distribution into `directory`.
    pub(super) fn write_wheels(&self, directory: &Path, environment: &MarkerEnvironment) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        for (name, (version, distribution)) in &self.installed {
            let stem = format!("{}-{version}", name.replace('-', "_"));
            let mut metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n");
            for line in self.kept_lines(&distribution.metadata, environment) {
                metadata += &format!("{line}\n");
            }
            write_wheel(&directory.join(format!("{stem}-py3-none-any.whl")), &stem, &metadata)?;
        }
        Ok(())
    }

    /// The dependencies that the base satisfies, and those of extras that a requirement may select.
    fn kept_lines<'m>(&self, metadata: &'m str, environment: &MarkerEnvironment) -> impl Iterator<Item = &'m str> {
        metadata.lines().filter(move |line| {
            let Some(text) = line.strip_prefix("Requires-Dist:") else { return line.starts_with("Provides-Extra:") };
            let Ok(requirement) = pep508::requirement(text.trim()) else { return false };
            !requirement.marker.evaluate(environment, &[]) || self.holds(&requirement)
        })
    }

    fn holds(&self, requirement: &Requirement<url::Url>) -> bool {
        let Some((version, _)) = self.installed.get(&normalize(requirement.name.as_ref())) else { return false };
        match &requirement.version_or_url {
            None => true,
            Some(VersionOrUrl::VersionSpecifier(versions)) => versions.contains(version),
            Some(VersionOrUrl::Url(_)) => false,
        }
    }

    /// Constraints: pins of the base's own builds, and the lines of its `PIP_CONSTRAINT`.
    pub(super) fn pins(&self, named: &[NamedRequirement]) -> String {
        let own = self.own_builds(named).map(|(name, version)| format!("{name}=={version}\n"));
        own.chain(self.constraints.lines().filter_map(|line| constraint(line, named))).collect()
    }

    /// Builds of the base that no index can have, without those that the requirements exclude.
    pub(super) fn own_builds(&self, named: &[NamedRequirement]) -> impl Iterator<Item = (&str, &Version)> {
        let kept = |name: &str, version: &Version| !excluded(named, name, version);
        let all = self.installed.iter().map(|(name, (version, _))| (name.as_str(), version));
        all.filter(move |(name, version)| (version.is_local() || version.any_prerelease()) && kept(name, version))
    }

    /// The preferences, as a lock in the form of uv's previous result.
    pub(super) fn preferences(&self, named: &[NamedRequirement]) -> String {
        let preferred = self.installed.iter().filter(|(name, (version, _))| !excluded(named, name, version));
        let lines =
            preferred.map(|(name, (version, _))| format!("  {{name = \"{name}\", version = \"{version}\"}},\n"));
        let packages: String = lines.collect();
        format!("lock-version = \"1.0\"\ncreated-by = \"ociforge\"\npackages = [\n{packages}]\n")
    }
}

/// A line of the base's constraint file, unless it is not a plain constraint or the requirements exclude it. URLs there
/// name files that only the base has.
fn constraint(line: &str, named: &[NamedRequirement]) -> Option<String> {
    let line = line.split(" #").next()?.split(" --").next()?.trim();
    let requirement = pep508::requirement(line).ok()?;
    let Some(VersionOrUrl::VersionSpecifier(versions)) = &requirement.version_or_url else { return None };
    let name = normalize(requirement.name.as_ref());
    let pinned = versions.iter().find(|specifier| *specifier.operator() == pep440_rs::Operator::Equal);
    let ruled_out = pinned.is_some_and(|pinned| excluded(named, &name, pinned.version()));
    (!ruled_out).then(|| format!("{line}\n"))
}

/// Whether it is valid as a file name and in TOML without escapes.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(super) fn write_wheel(path: &Path, stem: &str, metadata: &str) -> io::Result<()> {
    let info = format!("{stem}.dist-info");
    let wheel = "Wheel-Version: 1.0\nGenerator: ociforge\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let line = |name: &str, text: &str| {
        let hash = Digest::of(text.as_bytes());
        let raw = hex::decode(hash.hex()).unwrap_or_default();
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, raw);
        format!("{info}/{name},sha256={encoded},{}\n", text.len())
    };
    let record = [line("METADATA", metadata), line("WHEEL", wheel), format!("{info}/RECORD,,\n")].concat();
    let mut zip = ZipWriter::new(File::create(path)?);
    for (name, text) in [("METADATA", metadata), ("WHEEL", wheel), ("RECORD", &record)] {
        zip.start_file(format!("{info}/{name}"), SimpleFileOptions::default())?;
        zip.write_all(text.as_bytes())?;
    }
    zip.finish()?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::plan::Libc;
    use crate::python::resolve::pylock::marker_environment;
    use crate::python::target::WheelTarget;

    pub(in crate::python) fn facts(installed: &[(&str, &str, &str)], constraints: &str) -> BaseFacts {
        let distributions = installed.iter().map(|(name, version, more)| InstalledDistribution {
            name: (*name).into(),
            version: (*version).into(),
            metadata: format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}"),
            path: String::new(),
        });
        let constraints = Some(constraints.to_owned());
        BaseFacts { distributions: distributions.collect(), constraints, ..BaseFacts::default() }
    }

    fn named(name: &str, versions: &str) -> NamedRequirement {
        NamedRequirement { name: name.into(), versions: Some(versions.parse().unwrap()), hashes: vec![] }
    }

    #[test]
    fn own_builds_are_pinned_and_the_rest_preferred() {
        let installed = [("torch", "2.5.0a0+872d972e41", ""), ("Foo_Bar", "1.0", ""), ("odd", "1.0-ubuntu-x", "")];
        let facts = facts(&installed, "numpy==1.26 # c\nurl @ file:///x.whl\ntorch==2.5.0a0\n-c other\nfoo<3\n");
        let stubs = Stubs::of(&facts);
        assert_eq!(stubs.pins(&[]), "torch==2.5.0a0+872d972e41\nnumpy==1.26\ntorch==2.5.0a0\nfoo<3\n");
        assert!(stubs.preferences(&[]).contains("{name = \"foo-bar\", version = \"1.0\"},\n"));
        assert!(!stubs.preferences(&[]).contains("odd"));
        let other = [named("torch", "==2.6"), named("foo-bar", ">1")];
        assert_eq!(stubs.pins(&other), "numpy==1.26\nfoo<3\n");
        assert!(!stubs.preferences(&other).contains("name"));
    }

    #[test]
    fn dependencies_that_do_not_hold_are_dropped() {
        let more = "Requires-Dist: numpy<2\nRequires-Dist: numpy<1\nRequires-Dist: missing\nProvides-Extra: all\n\
                    Requires-Dist: missing2 ; extra == 'all'\nRequires-Dist: x; sys_platform == 'win32'\n\
                    Requires-Python: >=4\n";
        let facts = facts(&[("torch", "2", more), ("numpy", "1.26", "")], "");
        let environment = marker_environment(&WheelTarget::for_tests("3.11", Libc::Glibc(2, 36))).unwrap();
        let stubs = Stubs::of(&facts);
        let kept: Vec<&str> = stubs.kept_lines(&facts.distributions[0].metadata, &environment).collect();
        assert_eq!(
            kept,
            [
                "Requires-Dist: numpy<2",
                "Provides-Extra: all",
                "Requires-Dist: missing2 ; extra == 'all'",
                "Requires-Dist: x; sys_platform == 'win32'",
            ]
        );
    }
}
