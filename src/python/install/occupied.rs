//! The paths of packages: a file of one package must not replace a directory of another.
//!
//! Otherwise the later one would replace the other at unpacking, and a whole package would be lost without an error.
//! The same file in two packages is allowed: as with pip, the later one replaces the other.

use std::collections::BTreeMap;

use ociforge_layers::LayerPath;
use ociforge_layers::source::wheel::{Scheme, installed_files};

use super::{InstallError, LocalWheel};
use crate::layer::LayerError;
use crate::python::LockedWheel;

/// The paths of the packages so far, in all layers, with the first package of each path.
#[derive(Default)]
pub(crate) struct Occupied {
    files: BTreeMap<LayerPath, Package>,
    directories: BTreeMap<LayerPath, Package>,
}

/// A package, for people.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    name: String,
    version: String,
}

impl std::fmt::Display for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl Occupied {
    /// Adds the installed files of the wheels.
    pub(crate) fn add(&mut self, wheels: &[LocalWheel], scheme: &Scheme) -> Result<(), InstallError> {
        for LocalWheel { locked, path } in wheels {
            let LockedWheel { name, version, file, .. } = locked;
            let package = Package { name: name.clone(), version: version.clone() };
            for path in installed_files(path, file, scheme).map_err(LayerError::from)? {
                self.claim(path, &package)?;
            }
        }
        Ok(())
    }

    /// Adds a file. Another version of the same package does not conflict.
    fn claim(&mut self, path: LayerPath, package: &Package) -> Result<(), InstallError> {
        let of_other = |other: &&Package| other.name != package.name;
        let conflict = |file: &Package, directory: &Package, path: &LayerPath| InstallError::Occupied {
            file: file.to_string(),
            directory: directory.to_string(),
            path: path.to_string(),
        };
        if let Some(other) = self.directories.get(&path).filter(of_other) {
            return Err(conflict(package, other, &path));
        }
        for above in path.ancestors() {
            if let Some(other) = self.files.get(&above).filter(of_other) {
                return Err(conflict(other, package, &above));
            }
            if self.directories.contains_key(&above) {
                break;
            }
            self.directories.insert(above, package.clone());
        }
        self.files.entry(path).or_insert_with(|| package.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(claims: &[(&str, &str)]) -> Result<(), String> {
        let mut occupied = Occupied::default();
        for (name, path) in claims {
            let package = Package { name: (*name).into(), version: "1".into() };
            occupied.claim(path.parse().unwrap(), &package).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    #[test]
    fn a_file_is_no_directory() {
        let said = "a 1 has a file where b 1 has a directory: /s/x";
        assert_eq!(claims(&[("a", "s/x"), ("b", "s/x/y/z")]).unwrap_err(), said);
        assert_eq!(claims(&[("b", "s/x/y/z"), ("a", "s/x")]).unwrap_err(), said);
        // What lies above is another's already.
        assert_eq!(claims(&[("b", "s/x/y"), ("c", "s/x/z"), ("a", "s/x")]).unwrap_err(), said);
        assert_eq!(claims(&[("c", "s/c"), ("a", "s/x"), ("b", "s/x/y")]).unwrap_err(), said);
    }

    #[test]
    fn what_goes_together() {
        claims(&[("a", "s/x"), ("b", "s/x"), ("b", "s/x.py"), ("a", "s/d/x"), ("b", "s/d/y")]).unwrap();
        // Another version of the same package takes its place.
        claims(&[("a", "s/x"), ("a", "s/x/y")]).unwrap();
    }
}
