//! Locks after PEP 751 (`pylock.toml`): which wheel of which package a target gets.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use ociforge_layers::source::wheel::{FileName, normalize};
use ociforge_manifests::Digest;
use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder, MarkerTree, Pep508Url};
use serde::Deserialize;
use url::Url;

use super::error::{LockError, Problem};
use super::source::ARCHIVES;
use super::tags::Tags;
use super::target::Target;
use super::wheel::{Location, LockedWheel};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Pylock {
    lock_version: String,
    #[serde(default)]
    environments: Vec<String>,
    requires_python: Option<String>,
    #[serde(default)]
    packages: Vec<Package>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Package {
    name: String,
    version: Option<String>,
    marker: Option<String>,
    requires_python: Option<String>,
    vcs: Option<toml::Table>,
    directory: Option<toml::Table>,
    archive: Option<File>,
    sdist: Option<File>,
    #[serde(default)]
    wheels: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    name: Option<String>,
    url: Option<String>,
    path: Option<String>,
    size: Option<u64>,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
}

/// The wheels that `target` gets from the lock `text`, which was read from `path`, in the lock's order. Relative
/// paths in it start at its directory. None is marked as requested.
pub(super) fn read(text: &str, path: &Path, target: &Target) -> Result<Vec<LockedWheel>, LockError> {
    read_each(text, path, target, |chooser, package| chooser.choose(package))
}

/// The source archives in a lock of nothing but those; otherwise as [`read`].
pub(super) fn read_sdists(text: &str, path: &Path, target: &Target) -> Result<Vec<LockedWheel>, LockError> {
    read_each(text, path, target, |chooser, package| chooser.sdist(package))
}

fn read_each(
    text: &str,
    path: &Path,
    target: &Target,
    choose: impl Fn(&Chooser<'_>, &Package) -> Result<Option<LockedWheel>, Problem>,
) -> Result<Vec<LockedWheel>, LockError> {
    let lock = parse(text, path)?;
    let chosen = Chooser { target, environment: marker_environment(target)?, tags: Tags::of(target), path };
    if !chosen.fits(&lock)? {
        return Err(LockError::OtherTarget { path: path.to_path_buf(), target: target.to_string() });
    }
    let mut wheels: Vec<LockedWheel> = Vec::new();
    for package in &lock.packages {
        let failed = |problem| LockError::Package { name: package.name.clone(), problem };
        if let Some(wheel) = choose(&chosen, package).map_err(failed)? {
            if wheels.iter().any(|other| other.name == wheel.name) {
                return Err(failed(Problem::Twice));
            }
            wheels.push(wheel);
        }
    }
    Ok(wheels)
}

fn parse(text: &str, path: &Path) -> Result<Pylock, LockError> {
    let failed = |at: usize, message: String| {
        let line = 1 + text.get(..at).unwrap_or_default().matches('\n').count();
        LockError::Pylock { path: path.to_path_buf(), line, message }
    };
    let read: Result<Pylock, _> = toml::from_str(text);
    let lock = read.map_err(|error| failed(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    if lock.lock_version == "1.0" || lock.lock_version.starts_with("1.") {
        Ok(lock)
    } else {
        let at = text.find("lock-version").unwrap_or(0);
        Err(failed(at, format!("lock-version is `{}`; 1.0 is understood", lock.lock_version)))
    }
}

/// The environment that markers are evaluated in (PEP 508). What only a running system knows is empty.
pub(super) fn marker_environment(target: &Target) -> Result<MarkerEnvironment, LockError> {
    let version = format!("3.{}", target.python.minor);
    let full = format!("{version}.{}", target.python.patch.unwrap_or(0));
    let builder = MarkerEnvironmentBuilder {
        implementation_name: "cpython",
        implementation_version: &full,
        os_name: "posix",
        platform_machine: target.machine(),
        platform_python_implementation: "CPython",
        platform_release: "",
        platform_system: "Linux",
        platform_version: "",
        python_full_version: &full,
        python_version: &version,
        sys_platform: "linux",
    };
    builder.try_into().map_err(|_| LockError::Target { target: target.to_string() })
}

/// Chooses wheels for one target.
struct Chooser<'a> {
    target: &'a Target,
    environment: MarkerEnvironment,
    tags: Tags,
    path: &'a Path,
}

impl Chooser<'_> {
    /// Whether the whole lock is for the target.
    fn fits(&self, lock: &Pylock) -> Result<bool, LockError> {
        let whole = |problem| LockError::Package { name: self.path.display().to_string(), problem };
        if let Some(needs) = &lock.requires_python
            && !self.runs_on(needs).map_err(whole)?
        {
            return Ok(false);
        }
        let mut fits = lock.environments.is_empty();
        for marker in &lock.environments {
            fits |= self.applies(marker).map_err(whole)?;
        }
        Ok(fits)
    }

    /// The wheel of a package; `None` when its marker leaves it out.
    fn choose(&self, package: &Package) -> Result<Option<LockedWheel>, Problem> {
        if let Some(marker) = &package.marker
            && !self.applies(marker)?
        {
            return Ok(None);
        }
        if let Some(needs) = &package.requires_python
            && !self.runs_on(needs)?
        {
            let python = self.target.python.to_string();
            return Err(Problem::Python { needs: needs.clone(), python });
        }
        let files = self.files(package)?;
        let mut named = Vec::new();
        for file in files {
            let location = self.location(file, &package.name)?;
            let name = file.name.clone().or_else(|| location.file_name()).unwrap_or_default();
            let parsed = FileName::parse(&name).map_err(|_| Problem::FileName(name.clone()))?;
            named.push((parsed, (file, location, name)));
        }
        let names: Vec<String> = named.iter().map(|(_, (_, _, name))| name.clone()).collect();
        let version = named.first().map(|(parsed, _)| parsed.version.clone()).unwrap_or_default();
        let best = self.tags.best(named);
        let (file, location, name) =
            best.ok_or_else(|| Problem::WrongTarget { target: self.target.to_string(), files: names })?;
        Ok(Some(LockedWheel {
            name: normalize(&package.name),
            version: package.version.clone().unwrap_or(version),
            sha256: sha256(file, &name)?,
            file: name,
            location,
            size: file.size,
            requested: false,
        }))
    }

    /// The source archive of a package; `None` when it has none of a form that can be built.
    fn sdist(&self, package: &Package) -> Result<Option<LockedWheel>, Problem> {
        let (Some(file), Some(version)) = (&package.sdist, &package.version) else { return Ok(None) };
        let location = self.location(file, &package.name)?;
        let name = file.name.clone().or_else(|| location.file_name()).unwrap_or_default();
        if name.contains('/') || !ARCHIVES.iter().any(|suffix| name.ends_with(suffix)) {
            return Ok(None);
        }
        Ok(Some(LockedWheel {
            name: normalize(&package.name),
            version: version.clone(),
            sha256: sha256(file, &name)?,
            file: name,
            location,
            size: file.size,
            requested: false,
        }))
    }

    /// The wheels of a package. An archive that is a wheel counts as its only one.
    fn files<'p>(&self, package: &'p Package) -> Result<Vec<&'p File>, Problem> {
        if package.vcs.is_some() {
            return Err(Problem::NotAWheel("repository"));
        }
        if package.directory.is_some() {
            return Err(Problem::NotAWheel("directory"));
        }
        if let Some(archive) = &package.archive {
            let wheel = self.location(archive, &package.name)?.file_name().is_some_and(|name| name.ends_with(".whl"));
            return if wheel { Ok(vec![archive]) } else { Err(Problem::NotAWheel("source archive")) };
        }
        if package.wheels.is_empty() && package.sdist.is_some() {
            return Err(Problem::OnlySource);
        }
        Ok(package.wheels.iter().collect())
    }

    /// A path where there is one: it is what the lock carries along.
    fn location(&self, file: &File, package: &str) -> Result<Location, Problem> {
        let location = match (&file.path, &file.url) {
            (Some(path), _) => Some(Location::Path(self.path.parent().unwrap_or(Path::new(".")).join(path))),
            (None, Some(url)) => Location::of_url(url),
            (None, None) => None,
        };
        location.ok_or_else(|| Problem::NoLocation(file.name.clone().unwrap_or_else(|| package.to_owned())))
    }

    fn runs_on(&self, needs: &str) -> Result<bool, Problem> {
        let unreadable = |message: String| Problem::Unreadable { text: needs.to_owned(), message };
        let versions = VersionSpecifiers::from_str(needs).map_err(|error| unreadable(error.to_string()))?;
        Ok(versions.contains(&self.python()))
    }

    /// The target's Python; where only 3.11 is known, the newest that may be meant.
    fn python(&self) -> Version {
        let patch = self.target.python.patch.map_or(u64::from(u16::MAX), u64::from);
        Version::new([3, u64::from(self.target.python.minor), patch])
    }

    fn applies(&self, marker: &str) -> Result<bool, Problem> {
        let text = without_groups(marker);
        match MarkerTree::parse_str::<Url>(&text) {
            Ok(tree) => Ok(tree.evaluate(&self.environment, &[])),
            Err(error) => Err(unreadable::<Url>(marker, error.message)),
        }
    }
}

fn sha256(file: &File, name: &str) -> Result<Digest, Problem> {
    let hash = file.hashes.get("sha256").map(|hash| format!("sha256:{}", hash.to_ascii_lowercase()));
    hash.and_then(|hash| hash.parse().ok()).ok_or_else(|| Problem::NoHash(name.to_owned()))
}

fn unreadable<T: Pep508Url>(text: &str, error: pep508_rs::Pep508ErrorSource<T>) -> Problem {
    let message = match error {
        pep508_rs::Pep508ErrorSource::String(message)
        | pep508_rs::Pep508ErrorSource::UnsupportedRequirement(message) => message,
        pep508_rs::Pep508ErrorSource::UrlError(_) => "a wrong URL".into(),
    };
    Problem::Unreadable { text: text.to_owned(), message }
}

/// PEP 751 adds `'x' in extras` and `'x' in dependency_groups` to markers. No extra and no group is asked for here, so
/// the one is false and its opposite true, which is said in words that PEP 508 has too.
fn without_groups(marker: &str) -> String {
    const FALSE: &str = "os_name == ''";
    const TRUE: &str = "os_name != ''";
    let mut text = marker.to_owned();
    for set in ["extras", "dependency_groups"] {
        while let Some((start, end, negated)) = membership(&text, set) {
            text.replace_range(start..end, if negated { TRUE } else { FALSE });
        }
    }
    text
}

/// Where `'x' in set` or `'x' not in set` begins and ends, and whether it is the latter.
fn membership(text: &str, set: &str) -> Option<(usize, usize, bool)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (at, _) = text.match_indices(set).find(|(at, _)| {
        let (before, after) = (&text[..*at], &text[at + set.len()..]);
        before.trim_end().ends_with(" in") && before.ends_with(char::is_whitespace) && !after.starts_with(is_word)
    })?;
    let before = text[..at].trim_end().strip_suffix(" in")?.trim_end();
    let (before, negated) = match before.strip_suffix(" not") {
        Some(before) => (before.trim_end(), true),
        None => (before, false),
    };
    let quote = before.chars().next_back().filter(|c| matches!(c, '\'' | '"'))?;
    let start = before[..before.len() - 1].rfind(quote)?;
    Some((start, at + set.len(), negated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::facts::Libc;

    const HASH: &str = "0f343b0457d1bd2bd6d0d3a4a3f8a0b0f3a1f1c0e6e1d7c8b9a0f1e2d3c4b5a6";

    fn read_for(target: &Target, packages: &str) -> Result<Vec<LockedWheel>, LockError> {
        let text = format!("lock-version = \"1.0\"\ncreated-by = \"test\"\n{packages}");
        read(&text, Path::new("/recipe/pylock.toml"), target)
    }

    fn target() -> Target {
        Target::for_tests("3.11.4", Libc::Glibc(2, 31))
    }

    fn package(name: &str, more: &str) -> String {
        format!("[[packages]]\nname = \"{name}\"\nversion = \"1.0\"\n{more}\n")
    }

    fn wheels(files: &[&str]) -> String {
        let wheel = |file: &&str| format!("{{url = \"https://h/{file}\", hashes = {{sha256 = \"{HASH}\"}}}}");
        format!("wheels = [{}]", files.iter().map(wheel).collect::<Vec<_>>().join(","))
    }

    fn problem(packages: &str) -> String {
        let error = read_for(&target(), packages).unwrap_err();
        std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
    }

    #[test]
    fn the_best_wheel_is_chosen() {
        let files = [
            "A_a-1.0-py3-none-any.whl",
            "A_a-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            "A_a-1.0-cp311-cp311-manylinux_2_35_x86_64.whl",
        ];
        let found = read_for(&target(), &package("A.a", &wheels(&files))).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].file.as_str()), ("a-a", files[1]));
        let newer = Target::for_tests("3.11", Libc::Glibc(2, 36));
        assert_eq!(read_for(&newer, &package("A.a", &wheels(&files))).unwrap()[0].file, files[2]);
        let other = Target::for_tests("3.12", Libc::Musl(1, 2));
        assert_eq!(read_for(&other, &package("A.a", &wheels(&files))).unwrap()[0].file, files[0]);
    }

    #[test]
    fn markers_leave_packages_out() {
        for (marker, stays) in [
            ("sys_platform == 'linux'", true),
            ("sys_platform == 'win32' or platform_machine == 'aarch64'", false),
            ("python_full_version < '3.11.4'", false),
            ("python_version >= '3.11' and implementation_name == 'cpython'", true),
            ("'cuda' in extras", false),
            ("'cuda' not in extras and 'dev' not in dependency_groups", true),
            ("sys_platform == 'linux' and ('a' in dependency_groups or 'b' not in extras)", true),
        ] {
            let more = format!("marker = \"{marker}\"\n{}", wheels(&["a-1.0-py3-none-any.whl"]));
            assert_eq!(read_for(&target(), &package("a", &more)).unwrap().len(), usize::from(stays), "{marker}");
        }
        let unreadable = package("a", "marker = \"é in == (\"");
        assert!(problem(&unreadable).contains("can't be read"), "{}", problem(&unreadable));
    }

    #[test]
    fn paths_and_archives() {
        let local = package(
            "a",
            &format!(
                "wheels = [{{path = \"dist/a-1.0-py3-none-any.whl\", url = \"https://h/x\", size = 7, hashes = {{sha256 = \"{}\"}}}}]",
                HASH.to_uppercase()
            ),
        );
        let found = read_for(&target(), &local).unwrap();
        assert_eq!(found[0].location, Location::Path("/recipe/dist/a-1.0-py3-none-any.whl".into()));
        assert_eq!((found[0].size, found[0].sha256.hex()), (Some(7), HASH));
        let archive =
            format!("archive = {{url = \"https://h/a-2.0-py3-none-any.whl\", hashes = {{sha256 = \"{HASH}\"}}}}");
        let found = read_for(&target(), &format!("[[packages]]\nname = \"a\"\n{archive}")).unwrap();
        assert_eq!(found[0].version, "2.0");
    }

    #[test]
    fn what_can_not_be_installed() {
        let good = wheels(&["a-1.0-py3-none-any.whl"]);
        for (more, expected) in [
            ("sdist = {url = \"https://h/a.tar.gz\"}", "it has no wheel"),
            ("vcs = {type = \"git\", url = \"https://h/a\"}", "it is a repository"),
            ("directory = {path = \".\", editable = true}", "it is a directory"),
            ("archive = {url = \"https://h/a-1.tar.gz\"}", "it is a source archive"),
            (&wheels(&["a-1.0-cp312-cp312-win32.whl"]), "no wheel of it runs on Python 3.11.4 on linux/amd64"),
            ("wheels = [{url = \"https://h/a-1.0-py3-none-any.whl\", hashes = {md5 = \"0\"}}]", "has no SHA-256"),
            ("wheels = [{url = \"https://h/a-1.0-py3-none-any.whl\", hashes = {sha256 = \"0\"}}]", "has no SHA-256"),
            ("wheels = [{url = \"ftp://h/a-1.0-py3-none-any.whl\"}]", "no usable URL"),
            ("wheels = [{name = \"../a-1-py3-none-any.whl\", url = \"https://h/x\"}]", "is not a wheel's file name"),
            (&format!("requires-python = \">=3.12\"\n{good}"), "it needs Python >=3.12"),
            (&format!("{good}\n{}", package("A", &good)), "there are two of it"),
        ] {
            let problem = problem(&package("a", more));
            assert!(problem.contains(expected), "{more}: {problem}");
        }
    }

    #[test]
    fn a_lock_for_something_else() {
        for head in ["requires-python = \"<3.11\"", "environments = [\"sys_platform == 'darwin'\"]"] {
            assert!(problem(head).contains("is not for Python 3.11.4"), "{head}");
        }
        assert!(read_for(&target(), "environments = [\"sys_platform == 'darwin'\", \"os_name == 'posix'\"]").is_ok());
        let broken = |text: &str| read(text, Path::new("pylock.toml"), &target()).unwrap_err().to_string();
        assert_eq!(broken("lock-version = \"2.0\""), "pylock.toml:1: lock-version is `2.0`; 1.0 is understood");
        assert!(broken("lock-version = \"1.0\"\n\npackages = 3").starts_with("pylock.toml:3: "));
    }
}
