//! Locked wheels.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ociforge_layers::source::wheel::FileName;
use ociforge_manifests::Digest;
use pep440_rs::Version;
use sha2::{Digest as _, Sha256};
use url::Url;

use super::error::{PackageProblem, ResolveError};
use super::resolve::CompatibilityTags;
use super::target::WheelTarget;
use crate::store::FileHashes;
use ociforge_layers::regular::open_regular;

/// A wheel: its location and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedWheel {
    /// Normalised name of the distribution.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The file name, which has the tags.
    pub file: String,
    /// The location.
    pub location: Location,
    /// The length in bytes, if known.
    pub size: Option<u64>,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Whether the user required it by name (PEP 376, `REQUESTED`).
    pub requested: bool,
}

/// The location of a wheel.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// On a server.
    Url(Url),
    /// A file; relative to the recipe's directory if it is inside it.
    Path(PathBuf),
}

impl Location {
    /// Parses a URL; a `file` URL becomes a path.
    pub(crate) fn of_url(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        match url.scheme() {
            "http" | "https" => Some(Self::Url(url)),
            "file" => url.to_file_path().ok().map(Self::Path),
            _ => None,
        }
    }

    /// The last component, percent-decoded.
    pub(super) fn file_name(&self) -> Option<String> {
        match self {
            Self::Path(path) => path.file_name()?.to_str().map(str::to_owned),
            Self::Url(url) => {
                let last = url.path_segments()?.next_back()?;
                let file = Url::parse("file:///").ok()?.join(last).ok()?.to_file_path().ok()?;
                file.file_name()?.to_str().map(str::to_owned)
            }
        }
    }

    /// Makes a path inside `directory` relative to it, and any other absolute. Relative inputs start at the current
    /// directory.
    pub(super) fn relate_to(&mut self, directory: &Path) {
        if let Self::Path(path) = self {
            *path = related(path, directory);
        }
    }
}

/// A path inside `directory` relative to it, any other absolute.
pub(super) fn related(path: &Path, directory: &Path) -> PathBuf {
    // A missing file has no canonical path; its reader reports that it is missing.
    let real = |path: &Path| path.canonicalize().or_else(|_| std::path::absolute(path));
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let (Ok(path), Ok(directory)) = (real(path), real(directory)) else { return path.to_path_buf() };
    match path.strip_prefix(directory) {
        Ok(inside) if inside.as_os_str().is_empty() => PathBuf::from("."),
        Ok(inside) => inside.to_path_buf(),
        Err(_) => path,
    }
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => f.write_str(&super::redacted(url.as_str())),
            Self::Path(path) => path.fmt(f),
        }
    }
}

/// Whether two texts are the same version (PEP 440: `1.0` equals `1.0.0`).
pub(crate) fn same_version(a: &str, b: &str) -> bool {
    a == b || Version::from_str(a).ok().zip(Version::from_str(b).ok()).is_some_and(|(a, b)| a == b)
}

/// Wheels on this machine, such as those of `wheels = "dist/*.whl"`: hashed, and refused if they do not run on the
/// target with any C library. Sorted by name, all requested; paths inside `directory` become relative to it.
///
/// # Errors
/// When a file cannot be read, its name is not a wheel's, it does not run on the target, or a package has two versions
/// or builds.
pub fn local(
    files: &[PathBuf],
    target: &WheelTarget,
    directory: &Path,
    hashes: &FileHashes,
) -> Result<Vec<LockedWheel>, ResolveError> {
    let tags = CompatibilityTags::of_any_libc(target);
    let mut wheels: Vec<LockedWheel> = Vec::new();
    let paths: Vec<PathBuf> = files.iter().map(|file| directory.join(file)).collect();
    let known = hashes.of_all(&paths).map_err(|error| ResolveError::read(&error.path, error.source))?;
    for (path, (sha256, size)) in paths.into_iter().zip(&known) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let refused = |problem| ResolveError::Package { name: name.clone(), problem };
        let parsed = FileName::parse(&name).map_err(|_| refused(PackageProblem::FileName(name.clone())))?;
        if tags.rank(&parsed).is_none() {
            return Err(refused(PackageProblem::WrongTarget { target: target.to_string(), files: vec![name.clone()] }));
        }
        let mut location = Location::Path(path);
        location.relate_to(directory);
        wheels.push(LockedWheel {
            name: parsed.name,
            version: parsed.version,
            file: name,
            location,
            size: Some(*size),
            sha256: sha256.clone(),
            requested: true,
        });
    }
    wheels.sort_by(|a, b| a.name.cmp(&b.name));
    match wheels.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some(pair) => Err(ResolveError::Package { name: pair[0].name.clone(), problem: PackageProblem::Twice }),
        None => Ok(wheels),
    }
}

/// The wheels that do not run on the target's C library.
pub fn misfits<'a>(wheels: &'a [LockedWheel], target: &WheelTarget) -> impl Iterator<Item = &'a LockedWheel> + use<'a> {
    let tags = CompatibilityTags::of(target);
    wheels.iter().filter(move |wheel| !FileName::parse(&wheel.file).is_ok_and(|name| tags.rank(&name).is_some()))
}

/// Refuses wheels that do not run on the target's C library.
///
/// # Errors
/// For the first of them.
pub fn check_libc(wheels: &[LockedWheel], target: &WheelTarget) -> Result<(), ResolveError> {
    match misfits(wheels, target).next() {
        None => Ok(()),
        Some(LockedWheel { file, .. }) => {
            let problem = PackageProblem::WrongTarget { target: target.to_string(), files: vec![file.clone()] };
            Err(ResolveError::Package { name: file.clone(), problem })
        }
    }
}

/// SHA-256 of a file, and its length in bytes.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of_file(path: &Path) -> io::Result<(Digest, u64)> {
    let mut file = open_regular(path)?;
    let (mut hasher, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((Digest::from_sha256(&hasher.finalize().into()), size)),
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Libc;

    #[test]
    fn locations() {
        let url = Location::of_url("https://u:p@h/a/torch-2.5%2Bcu1-py3-none-any.whl#sha256=x").unwrap();
        assert_eq!(url.file_name().unwrap(), "torch-2.5+cu1-py3-none-any.whl");
        assert!(!format!("{url:?}").contains("u:p"));
        assert_eq!(Location::of_url("file:///a/b.whl"), Some(Location::Path("/a/b.whl".into())));
        assert_eq!(Location::of_url("git+https://h/a"), None);
        assert_eq!(Location::of_url("https://h/a/..%2f..%2fetc/").unwrap().file_name(), None);
    }

    #[test]
    fn local_wheels() {
        let directory = tempfile::tempdir().unwrap();
        let hashes = crate::store::Store::open(&directory.path().join("store")).unwrap().file_hashes();
        let write = |name: &str| {
            std::fs::write(directory.path().join(name), name).unwrap();
            PathBuf::from(name)
        };
        let (b, a) = (write("B.b-1-py3-none-any.whl"), write("a-1-py3-none-any.whl"));
        let target = WheelTarget::for_tests("3.11", Libc::Glibc(2, 36));
        let wheels = local(&[b.clone(), a.clone()], &target, directory.path(), &hashes).unwrap();
        assert_eq!(wheels.iter().map(|wheel| wheel.name.as_str()).collect::<Vec<_>>(), ["a", "b-b"]);
        assert_eq!(wheels[0].location, Location::Path(a));
        assert_eq!(wheels[0].sha256, Digest::of(b"a-1-py3-none-any.whl"));
        let (other, second) = (write("c-1-cp310-cp310-win32.whl"), write("b_B-2-py3-none-any.whl"));
        let newer =
            local(&[write("d-1-cp311-cp311-manylinux_2_39_x86_64.whl")], &target, directory.path(), &hashes).unwrap();
        let refused = check_libc(&newer, &target).unwrap_err();
        assert!(std::error::Error::source(&refused).unwrap().to_string().contains("glibc 2.36"), "{refused}");
        assert!(check_libc(&newer, &WheelTarget::for_tests("3.11", Libc::Glibc(2, 39))).is_ok());
        assert!(check_libc(&wheels, &target).is_ok());
        for files in [vec![other], vec![b, second], vec![write("x.whl")], vec!["missing-1-py3-none-any.whl".into()]] {
            assert!(local(&files, &target, directory.path(), &hashes).is_err(), "{files:?}");
        }
    }
}
