//! The packages that the user requires, with their versions and hashes.
//!
//! uv parses the same text and reports its errors; this parser skips lines that it cannot read.

mod lines;

use std::path::Path;

use ociforge_layers::source::wheel::{FileName, normalize};
use pep440_rs::{Version, VersionSpecifiers};
use pep508_rs::{MarkerEnvironment, VersionOrUrl};
use url::Url;

use self::lines::{Line, lines, option, urls};
use super::Requirements;
use super::pep508;
use super::pylock::marker_environment;
use crate::python::error::{PackageProblem, ResolveError};
use crate::python::target::WheelTarget;
use crate::python::wheel::LockedWheel;

/// A required package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamedRequirement {
    /// Its normalised name.
    pub(super) name: String,
    /// The allowed versions; `None` for a URL or a path.
    pub(super) versions: Option<VersionSpecifiers>,
    /// The values of its `--hash` options, such as `sha256:…`; empty if any file is allowed.
    pub(super) hashes: Vec<String>,
}

impl NamedRequirement {
    /// Whether `version` is not allowed. Pre-releases within the bounds are allowed, as pip allows them if they are
    /// installed.
    fn excludes(&self, version: &Version) -> bool {
        self.versions.as_ref().is_none_or(|versions| !versions.contains(version))
    }
}

/// Whether one of the requirements excludes this version of the package.
pub(super) fn excluded(named: &[NamedRequirement], name: &str, version: &Version) -> bool {
    named.iter().any(|requirement| requirement.name == name && requirement.excludes(version))
}

/// Checks the wheels against the hashes of the requirements. As in pip, a hash for one package requires one for every
/// package.
pub(super) fn check_hashes(named: &[NamedRequirement], wheels: &[LockedWheel]) -> Result<(), ResolveError> {
    if named.iter().all(|requirement| requirement.hashes.is_empty()) {
        return Ok(());
    }
    for wheel in wheels {
        let of_it = named.iter().filter(|requirement| requirement.name == wheel.name);
        let mut hashes = of_it.flat_map(|requirement| &requirement.hashes).peekable();
        let problem = if hashes.peek().is_none() {
            PackageProblem::Unhashed
        } else if hashes.any(|hash| hash == wheel.sha256.as_str()) {
            continue;
        } else {
            PackageProblem::WrongHash(wheel.file.clone())
        };
        return Err(ResolveError::Package { name: wheel.name.clone(), problem });
    }
    Ok(())
}

/// The required packages, without those for other platforms.
pub(super) fn read(
    requirements: &Requirements,
    target: &WheelTarget,
    directory: &Path,
) -> Result<Vec<NamedRequirement>, ResolveError> {
    let environment = marker_environment(target)?;
    let mut named = Vec::new();
    for Line { text, .. } in lines(requirements, directory)? {
        if let Some(project) = project(&text, directory).filter(|_| applies(&text, &environment)) {
            let problem = PackageProblem::NotAWheel("directory");
            return Err(ResolveError::Package { name: project.to_owned(), problem });
        }
        named.extend(name(&text, &environment));
    }
    Ok(named)
}

/// The directory of a project on disk, for `-e` and for a plain directory: uv runs its build backend regardless of
/// options. Relative paths start at `directory`.
fn project<'a>(line: &'a str, directory: &Path) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("--editable").or_else(|| line.strip_prefix("-e")) {
        return Some(rest.trim_start_matches(['=', ' ', '\t']));
    }
    let place = line.split_once(" @ ").map_or(line, |(_, place)| place);
    let place = place.split(" ;").next().unwrap_or(place).trim();
    let path = place.strip_prefix("file://").unwrap_or(place);
    let is_path = path.starts_with(['.', '/']) || place.len() > path.len();
    (is_path && directory.join(path.split('[').next().unwrap_or(path)).is_dir()).then_some(place)
}

/// Whether the marker at the end of a line is true. An invalid marker counts as true: uv reports it.
fn applies(line: &str, environment: &MarkerEnvironment) -> bool {
    let marker = line.split_once(" ;").map(|(_, marker)| pep508::marker(marker));
    marker.and_then(Result::ok).is_none_or(|marker| marker.evaluate(environment, &[]))
}

/// The options for package sources in requirements, such as `--index-url` and `--find-links`, one per line, with
/// absolute directories.
#[must_use]
pub fn index_options(requirements: &Requirements, directory: &Path) -> Vec<String> {
    // The reader of the requirements reports unreadable files.
    let lines = lines(requirements, directory).unwrap_or_default();
    lines.iter().filter_map(|Line { text, directory }| index_option(text, directory)).collect()
}

fn index_option(line: &str, directory: &Path) -> Option<String> {
    let (option, value) = option(line)?;
    match option {
        "--no-index" => Some(option.to_owned()),
        "--index-url" | "-i" | "--extra-index-url" => Some(format!("{option} {value}")),
        "--find-links" | "-f" if value.contains("://") => Some(format!("{option} {value}")),
        "--find-links" | "-f" => {
            let place = std::path::absolute(directory.join(value)).ok()?;
            Some(format!("{option} {}", place.display()))
        }
        _ => None,
    }
}

/// The URLs with a user of indexes and packages in requirements.
pub(in crate::python) fn urls_with_user(requirements: &Requirements, directory: &Path) -> Vec<Url> {
    let lines = lines(requirements, directory).unwrap_or_default();
    lines
        .iter()
        .flat_map(|line| urls(&line.text))
        .filter(|url| !url.username().is_empty() || url.password().is_some())
        .collect()
}

/// The requirement of a line; `None` for options and for other platforms.
fn name(line: &str, environment: &MarkerEnvironment) -> Option<NamedRequirement> {
    if line.starts_with('-') {
        return None;
    }
    // Options of a requirement, such as `--hash`, are at the end of the line.
    let (line, options) = line.split_once(" --").unwrap_or((line, ""));
    let hashes = options.split_whitespace().filter_map(|option| option.trim_start_matches('-').strip_prefix("hash="));
    let hashes: Vec<String> = hashes.map(str::to_ascii_lowercase).collect();
    let line = line.trim();
    let Ok(requirement) = pep508::requirement(line) else {
        let file = line.split([';', '#', '?']).next()?.trim().rsplit('/').next()?;
        let wheel = FileName::parse(file).ok()?;
        return Some(NamedRequirement { name: wheel.name, versions: None, hashes });
    };
    let versions = match requirement.version_or_url {
        None => Some(VersionSpecifiers::empty()),
        Some(VersionOrUrl::VersionSpecifier(versions)) => Some(versions),
        Some(VersionOrUrl::Url(_)) => None,
    };
    let applies = requirement.marker.evaluate(environment, &[]);
    applies.then(|| NamedRequirement { name: normalize(requirement.name.as_ref()), versions, hashes })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plan::Libc;

    fn target() -> WheelTarget {
        WheelTarget::for_tests("3.11", Libc::Glibc(2, 36))
    }

    #[test]
    fn names_of_files_and_what_they_include() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        write(
            "r.txt",
            "# c\n-r sub/more.txt\nA_a >=1, \\\n  <2 # why\n--index-url x\nwin; sys_platform == 'win32'\n./sub ; \
                sys_platform == 'win32'\n",
        );
        write(
            "sub/more.txt",
            "b[x]==1.0 --hash=sha256:00\n./d/c_c-1-py3-none-any.whl\nd @ https://h/d.whl\n-r ../r.txt\n???\né\n",
        );
        let mut named = read(&Requirements::File("r.txt".into()), &target(), directory.path()).unwrap();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        named.dedup();
        let shown: Vec<String> = named
            .iter()
            .map(|n| format!("{} {}", n.name, n.versions.as_ref().map_or("url".into(), ToString::to_string)))
            .collect();
        assert_eq!(shown, ["a-a >=1, <2", "b ==1.0", "c-c url", "d url"]);
        assert!(read(&Requirements::File("missing".into()), &target(), directory.path()).is_err());
        fs::create_dir_all(directory.path().join("app")).unwrap();
        let directories = ["./app", ".", "app @ ./app", "./app[x] ; python_version > '3'"];
        let url = format!("app @ file://{}/app", directory.path().display());
        for editable in
            ["-e .", "-e./a", "--editable=a # x", "  -e a", "--editable a", &url].into_iter().chain(directories)
        {
            write("sub/more.txt", editable);
            let refused = read(&Requirements::File("r.txt".into()), &target(), directory.path());
            assert!(matches!(refused, Err(ResolveError::Package { .. })), "{editable}");
        }
    }

    #[test]
    fn where_packages_are() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        fs::create_dir(directory.path().join("sub")).unwrap();
        write("r.txt", "-r sub/more.txt\n--index-url https://h/s # c\na==1 --hash=x\n");
        write("sub/more.txt", "--find-links links\n-f https://h/l\n--no-index\n--pre\n");
        let links = format!("--find-links {}", directory.path().join("sub/links").display());
        let found = index_options(&Requirements::File("r.txt".into()), directory.path());
        assert_eq!(found, [&links, "-f https://h/l", "--no-index", "--index-url https://h/s"]);
        let list = ["six", "--extra-index-url=https://h"].map(String::from);
        assert_eq!(index_options(&Requirements::List(list.into()), Path::new("/")), ["--extra-index-url https://h"]);
    }

    #[test]
    fn what_a_requirement_rules_out() {
        let list = ["torch>=2", "tqdm", "a==1.0", "b @ https://h/b.whl"].map(String::from);
        let named = read(&Requirements::List(list.into()), &target(), Path::new(".")).unwrap();
        let rules_out = |name: &str, version: &str| excluded(&named, name, &version.parse().unwrap());
        assert!(!rules_out("torch", "2.5.0a0+872d972e41") && rules_out("torch", "1.14.0a0+410ce96"));
        assert!(!rules_out("tqdm", "4") && !rules_out("a", "1.0.0") && !rules_out("a", "1.0+local"));
        assert!(rules_out("b", "1") && !rules_out("other", "1"));
    }

    #[test]
    fn hashes_must_be_those_of_the_wheels() {
        let digest = |content: &str| ociforge_manifests::Digest::of(content.as_bytes());
        let wheel = |name: &str| LockedWheel {
            name: name.into(),
            version: "1".into(),
            file: format!("{name}-1-py3-none-any.whl"),
            location: crate::python::Location::Path("x".into()),
            size: None,
            sha256: digest(name),
            requested: true,
        };
        let named = |line: String| read(&Requirements::List(vec![line]), &target(), Path::new(".")).unwrap();
        let check = |line: String, wheels: &[LockedWheel]| check_hashes(&named(line), wheels);
        let (right, wrong) = (format!("a==1 --hash={}", digest("a")), format!("a==1 --hash={}", digest("z")));
        assert!(check("a==1".into(), &[wheel("a")]).is_ok());
        assert!(check(format!("{wrong} --hash={}", digest("a")), &[wheel("a")]).is_ok());
        let problem = |result: Result<(), ResolveError>| match result {
            Err(ResolveError::Package { problem, .. }) => problem.to_string(),
            other => panic!("{other:?}"),
        };
        let other = "the requirements have no hash that matches a-1-py3-none-any.whl";
        assert_eq!(problem(check(wrong, &[wheel("a")])), other);
        let none = "the requirements have hashes for other packages, but none for this package";
        assert_eq!(problem(check(right, &[wheel("a"), wheel("b")])), none);
    }
}
