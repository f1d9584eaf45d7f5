//! Installation schemes: the directories for the parts of a distribution, as in pip and `sysconfig`.

use std::collections::BTreeSet;

use super::launcher::Launcher;
use crate::path::{LayerPath, PathError};

/// Directories below a prefix that belong to the system, even if a wheel has files in them.
const SYSTEM: [&str; 28] = [
    "bin",
    "etc",
    "games",
    "include",
    "lib",
    "lib32",
    "lib64",
    "libexec",
    "libx32",
    "man",
    "sbin",
    "share",
    "share/applications",
    "share/doc",
    "share/icons",
    "share/info",
    "share/locale",
    "share/man",
    "share/man/man1",
    "share/man/man2",
    "share/man/man3",
    "share/man/man4",
    "share/man/man5",
    "share/man/man6",
    "share/man/man7",
    "share/man/man8",
    "src",
    "var",
];

/// The directories of a Python installation for the parts of a wheel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scheme {
    /// Pure modules.
    pub purelib: LayerPath,
    /// Platform-specific modules; usually the same directory.
    pub platlib: LayerPath,
    /// Scripts.
    pub scripts: LayerPath,
    /// Everything in `.data/data`, such as `share/man`: the prefix of the installation.
    pub data: LayerPath,
    /// The parent of the directories for each distribution's C headers.
    pub headers: LayerPath,
    /// Major and minor version of Python.
    pub python: (u32, u32),
    /// Absolute path of the interpreter, for the first line of scripts.
    pub executable: String,
    /// The form of scripts for entry points.
    pub launcher: Launcher,
}

impl Scheme {
    /// The scheme of the installation with its packages in `site_packages`, as in its own pip.
    ///
    /// The prefix is the part before `lib/pythonX.Y/{site,dist}-packages` (or `lib64/…`, or Debian's
    /// `lib/python3/dist-packages`). Any other directory is its own prefix, as in `pip install --target`: scripts are
    /// in its `bin`, data in the directory itself, headers in its `include/python`.
    ///
    /// # Errors
    /// When a path would have a component that is too long.
    pub fn new(site_packages: LayerPath, python: (u32, u32), executable: String) -> Result<Self, PathError> {
        let versioned = format!("python{}.{}", python.0, python.1);
        let prefix = prefix(&site_packages, &versioned);
        let include = match &prefix {
            // Debian's own Python installs to /usr/local, but its headers are in /usr.
            Some(prefix) if is_debian(&site_packages, prefix, python) => format!("/usr/include/{versioned}"),
            Some(_) => format!("include/{versioned}"),
            None => "include/python".to_owned(),
        };
        let data = prefix.unwrap_or_else(|| site_packages.clone());
        Ok(Self {
            scripts: data.join("bin")?,
            headers: if include.starts_with('/') { LayerPath::new(include)? } else { data.join(include)? },
            data,
            platlib: site_packages.clone(),
            purelib: site_packages,
            python,
            executable,
            launcher: Launcher::default(),
        })
    }

    /// The same in a virtual environment, where headers are in `include/site/pythonX.Y`.
    ///
    /// # Errors
    /// As [`Scheme::new`].
    pub fn in_venv(mut self) -> Result<Self, PathError> {
        self.headers = self.data.join(format!("include/site/python{}.{}", self.python.0, self.python.1))?;
        Ok(self)
    }

    /// The same with scripts in the form of this version of pip, major and minor.
    #[must_use]
    pub fn like_pip(mut self, version: (u32, u32)) -> Self {
        self.launcher = Launcher::of_pip(version);
        self
    }

    /// The directories of the base: those of the scheme, their parents, and the usual ones of a prefix. Entries for
    /// them in a layer would change their mode and time. All other directories below the scheme's belong to the wheel.
    pub(super) fn base_directories(&self) -> Result<BTreeSet<LayerPath>, PathError> {
        let mut base = BTreeSet::new();
        // A virtual environment has no directory of headers until a wheel creates it.
        let in_venv = self.headers.starts_with(&self.data.join("include/site")?);
        let headers = if in_venv { &self.data } else { &self.headers };
        let own = [&self.purelib, &self.platlib, &self.scripts, &self.data, headers];
        for directory in own {
            base.extend(directory.ancestors());
            base.insert(directory.clone());
        }
        for name in SYSTEM {
            base.insert(self.data.join(name)?);
        }
        Ok(base)
    }
}

fn prefix(site_packages: &LayerPath, versioned: &str) -> Option<LayerPath> {
    let path = site_packages.as_bytes();
    let components: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    let (rest, [lib, python, packages]) = components.split_last_chunk::<3>()?;
    let known = [&b"lib"[..], b"lib64"].contains(lib)
        && (*python == versioned.as_bytes() || (*python == b"python3" && *packages == b"dist-packages"))
        && [&b"site-packages"[..], b"dist-packages"].contains(packages);
    known.then(|| LayerPath::new(rest.join(&b'/')).ok()).flatten()
}

fn is_debian(site_packages: &LayerPath, prefix: &LayerPath, python: (u32, u32)) -> bool {
    site_packages.file_name() == b"dist-packages" && prefix.as_bytes() == b"usr/local" && python >= (3, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheme(site_packages: &str) -> Scheme {
        Scheme::new(site_packages.parse().unwrap(), (3, 11), "/usr/bin/python3".into()).unwrap()
    }

    #[test]
    fn prefixes() {
        for (site, data, scripts, headers) in [
            ("usr/local/lib/python3.11/dist-packages", "/usr/local", "/usr/local/bin", "/usr/include/python3.11"),
            ("usr/lib/python3/dist-packages", "/usr", "/usr/bin", "/usr/include/python3.11"),
            ("opt/conda/lib/python3.11/site-packages", "/opt/conda", "/opt/conda/bin", "/opt/conda/include/python3.11"),
            (
                "usr/local/lib64/python3.11/site-packages",
                "/usr/local",
                "/usr/local/bin",
                "/usr/local/include/python3.11",
            ),
            ("lib/python3.11/site-packages", "/", "/bin", "/include/python3.11"),
            ("opt/lib/python3.10/site-packages", "/opt/lib/python3.10/site-packages", "", ""),
            ("app", "/app", "/app/bin", "/app/include/python"),
        ] {
            let scheme = scheme(site);
            assert_eq!(scheme.data.to_string(), data);
            if !scripts.is_empty() {
                assert_eq!((scheme.scripts.to_string(), scheme.headers.to_string()), (scripts.into(), headers.into()));
            }
        }
        let venv = scheme("venv/lib/python3.11/site-packages").in_venv().unwrap();
        assert_eq!(venv.headers.to_string(), "/venv/include/site/python3.11");
    }

    #[test]
    fn the_base_keeps_its_directories() {
        let base = scheme("usr/local/lib/python3.11/dist-packages").base_directories().unwrap();
        for path in ["usr", "usr/local", "usr/local/lib/python3.11", "usr/local/bin", "usr/local/share/man/man1"] {
            assert!(base.contains(&path.parse::<LayerPath>().unwrap()), "{path}");
        }
        assert!(!base.contains(&"usr/local/share/jupyter".parse::<LayerPath>().unwrap()));
    }
}
