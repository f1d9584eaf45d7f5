//! The Python of an image, and its package directories.

use ociforge_layers::LayerPath;
use ociforge_layers::merge::MergedEntry;
use serde::{Deserialize, Serialize};

use super::facts::{OsRelease, env_value};
use super::file_filter::minor_version;
use super::tree::{Tree, TreeEntry};

/// The default `PATH` of images without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A Python interpreter and its installation scheme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// Major and minor version, `3.11`.
    pub version: String,
    /// The full version, `3.11.2`, if known.
    pub full_version: Option<String>,
    /// The path of the interpreter in `PATH`, `/usr/bin/python3`.
    pub executable: String,
    /// The prefix of installed scripts, headers and data: `bin`, `include` and so on are below it.
    pub prefix: String,
    /// The directory of packages.
    pub site_packages: String,
    /// Whether it is in a virtual environment.
    pub venv: bool,
}

impl Python {
    /// The first `python3`, or else the first `python`, on the image's `PATH`, with its package directories in the
    /// order of its search.
    pub(super) fn find(env: &[String], os: &OsRelease, tree: &Tree) -> Option<(Self, Vec<LayerPath>)> {
        let path = env_value(env, "PATH").unwrap_or(DEFAULT_PATH);
        let candidates = ["python3", "python"].into_iter().flat_map(|name| path.split(':').map(move |dir| (dir, name)));
        candidates.into_iter().filter(|(directory, _)| directory.starts_with('/')).find_map(|(directory, name)| {
            let executable = LayerPath::new(directory).ok()?.join(name).ok()?;
            Installation::of(&executable, tree)?.describe(&executable, env, os, tree)
        })
    }
}

/// The location of an interpreter.
struct Installation {
    /// Its prefix: the parent of `bin`.
    base: LayerPath,
    minor: u32,
    /// The virtual environment, if it is in one.
    venv: Option<LayerPath>,
}

impl Installation {
    fn of(executable: &LayerPath, tree: &Tree) -> Option<Self> {
        let real = tree.resolve(executable)?;
        if tree.get(&real) != Some(&TreeEntry::Executable) {
            return None;
        }
        let base = real.parent()?.parent()?;
        let minor = minor_version(real.file_name()).or_else(|| newest_library(&base, tree))?;
        // Python searches its configuration relative to the called path, before it follows the last link.
        let called = tree.resolve(&executable.parent()?)?;
        let venv = called.parent().filter(|venv| config(venv, tree).is_some());
        Some(Self { base, minor, venv })
    }

    fn describe(
        self,
        executable: &LayerPath,
        env: &[String],
        os: &OsRelease,
        tree: &Tree,
    ) -> Option<(Python, Vec<LayerPath>)> {
        let version = format!("3.{}", self.minor);
        let packages = |prefix: &LayerPath, name: &str| prefix.join(format!("lib/python{version}/{name}")).ok();
        let debian = os.is_like("debian") && self.base.as_bytes() == b"usr";
        let prefix = match &self.venv {
            Some(venv) => venv.clone(),
            None if debian => LayerPath::new("usr/local").ok()?,
            None => self.base.clone(),
        };
        let site = packages(&prefix, if debian && self.venv.is_none() { "dist-packages" } else { "site-packages" })?;
        let mut search = vec![site.clone()];
        if self.venv.as_ref().is_none_or(|venv| sees_the_system(venv, tree)) {
            search.extend(if debian {
                debian_packages(&version)
            } else {
                vec![packages(&self.base, "site-packages")?]
            });
        }
        let python = Python {
            full_version: self.full_version(&version, env, tree),
            version,
            executable: executable.to_string(),
            prefix: prefix.to_string(),
            site_packages: site.to_string(),
            venv: self.venv.is_some(),
        };
        Some((python, search.iter().filter_map(|directory| tree.resolve(directory)).collect()))
    }

    /// The full version from the virtual environment, conda, dpkg, or the variable of images that build Python
    /// themselves.
    fn full_version(&self, version: &str, env: &[String], tree: &Tree) -> Option<String> {
        let fits = |full: &str| {
            let patch = full.strip_prefix(version)?.strip_prefix('.')?;
            let digits = patch.find(|c: char| !c.is_ascii_digit()).unwrap_or(patch.len());
            (digits > 0).then(|| format!("{version}.{}", &patch[..digits]))
        };
        let venv = self.venv.as_ref().and_then(|venv| {
            let text = config(venv, tree)?;
            setting(text, "version_info").or_else(|| setting(text, "version")).and_then(fits)
        });
        let conda = || {
            let directory = self.base.join("conda-meta").ok()?;
            tree.iter()
                .filter(|(path, _)| path.parent().as_ref() == Some(&directory))
                .find_map(|(path, _)| fits(&String::from_utf8_lossy(path.file_name().strip_prefix(b"python-")?)))
        };
        let dpkg = || {
            let status = tree.text(&LayerPath::new("var/lib/dpkg/status").ok()?)?;
            let package = format!("python{version}-minimal ");
            status.lines().find_map(|line| fits(line.strip_prefix(&package)?))
        };
        let variable = || env_value(env, "PYTHON_VERSION").and_then(fits);
        let system = self.base.as_bytes() == b"usr";
        venv.or_else(conda).or_else(|| if system { dpkg() } else { variable() })
    }
}

/// The package directories of Debian's and Ubuntu's own Python, besides `/usr/local`.
fn debian_packages(version: &str) -> Vec<LayerPath> {
    let names = [
        format!("usr/local/lib/python{version}/dist-packages"),
        "usr/lib/python3/dist-packages".into(),
        format!("usr/lib/python{version}/dist-packages"),
    ];
    names.iter().filter_map(|name| LayerPath::new(name).ok()).collect()
}

/// The newest version with a standard library below `prefix`.
fn newest_library(prefix: &LayerPath, tree: &Tree) -> Option<u32> {
    let inside = |path: &&LayerPath| path.parent().and_then(|lib| lib.parent()).as_ref() == Some(prefix);
    let libraries = tree.iter().filter(|(_, kept)| kept.is_directory()).map(|(path, _)| path);
    libraries.filter(inside).filter_map(|path| minor_version(path.file_name())).max()
}

/// The text of a virtual environment's `pyvenv.cfg`.
fn config<'a>(venv: &LayerPath, tree: &'a Tree) -> Option<&'a str> {
    tree.text(&venv.join("pyvenv.cfg").ok()?)
}

fn sees_the_system(venv: &LayerPath, tree: &Tree) -> bool {
    let value = config(venv, tree).and_then(|text| setting(text, "include-system-site-packages"));
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// The value of `key` in a `pyvenv.cfg`.
fn setting<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once('=')).find(|(name, _)| name.trim() == key).map(|(_, v)| v.trim())
}
