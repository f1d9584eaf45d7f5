//! Undeclared build requirements of old sources.
//!
//! A `setup.py` without a `pyproject.toml` expects its requirements to be installed already. If it cannot import a
//! module of one of the well-known packages below, that package becomes a build requirement, so that the lock pins it.
//! Other modules are not guessed: any package may have that name.

use pep440_rs::Version;

use super::SourceError;
use crate::base::facts::BaseFacts;
use crate::python::IsolatedError;

/// Modules, and the requirements that contain them.
const KNOWN: [(&str, &str); 11] = [
    ("Cython", "cython"),
    ("cffi", "cffi"),
    ("cmake", "cmake"),
    ("numpy", "numpy"),
    ("packaging", "packaging"),
    ("pkg_resources", "setuptools<81"),
    ("pybind11", "pybind11"),
    ("scipy", "scipy"),
    ("setuptools_scm", "setuptools-scm"),
    ("six", "six"),
    ("wheel", "wheel"),
];

/// The missing requirement of a failed job. Its version is that of the base, if an index can have this version: code
/// that is compiled against a package must match the installed one.
pub(super) fn unnamed(error: &SourceError, base: Option<&BaseFacts>) -> Option<String> {
    let SourceError::Run { source: IsolatedError::Failed { last_lines, .. }, .. } = error else { return None };
    let module =
        last_lines.iter().rev().find_map(|line| line.split("No module named '").nth(1)?.split(['\'', '.']).next())?;
    let (_, requirement) = KNOWN.iter().find(|(known, _)| *known == module)?;
    let installed = base.and_then(|base| base.distributions.iter().find(|d| d.normalized_name() == *requirement));
    let version = installed.and_then(|distribution| distribution.version.parse::<Version>().ok());
    let public = version.filter(|version| !version.is_local() && !version.any_prerelease());
    Some(public.map_or_else(|| (*requirement).to_owned(), |version| format!("{requirement}=={version}")))
}

#[cfg(test)]
mod tests {
    use super::super::error::JobPurpose;
    use super::*;
    use crate::base::facts::InstalledDistribution;

    #[test]
    fn modules_that_are_known() {
        let of = |line: &str, base: Option<&BaseFacts>| {
            let last_lines = vec!["Traceback".into(), line.into(), String::new()];
            let source = IsolatedError::Failed { code: Some(1), last_lines };
            unnamed(&SourceError::Run { doing: JobPurpose::Build, source }, base)
        };
        let missing = "ModuleNotFoundError: No module named 'numpy.distutils'";
        assert_eq!(of(missing, None).as_deref(), Some("numpy"));
        let facts = |version: &str| BaseFacts {
            distributions: vec![InstalledDistribution {
                name: "NumPy".into(),
                version: version.into(),
                metadata: String::new(),
                path: String::new(),
            }],
            ..BaseFacts::default()
        };
        assert_eq!(of(missing, Some(&facts("1.22.2"))).as_deref(), Some("numpy==1.22.2"));
        assert_eq!(of(missing, Some(&facts("1.22.2+own"))).as_deref(), Some("numpy"));
        assert_eq!(of("No module named 'pkg_resources'", None).as_deref(), Some("setuptools<81"));
        assert!(of("No module named 'anything'", None).is_none() && of("error: no luck", None).is_none());
    }
}
