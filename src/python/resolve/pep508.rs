//! Requirements and markers (PEP 508). Only URLs in them may have non-ASCII characters; the parser panics at such a
//! marker.

use std::str::FromStr;

use pep508_rs::{MarkerTree, Pep508ErrorSource, Requirement};
use url::Url;

use crate::python::error::PackageProblem;

/// Parses a requirement.
///
/// # Errors
/// When it is invalid.
pub(super) fn requirement(text: &str) -> Result<Requirement<Url>, PackageProblem> {
    if text.split_once(';').is_some_and(|(_, marker)| !marker.is_ascii()) {
        return Err(not_ascii(text));
    }
    Requirement::from_str(text).map_err(|error| unreadable(text, error.message))
}

/// Parses a marker.
///
/// # Errors
/// When it is invalid.
pub(super) fn marker(text: &str) -> Result<MarkerTree, PackageProblem> {
    if !text.is_ascii() {
        return Err(not_ascii(text));
    }
    MarkerTree::parse_str::<Url>(text).map_err(|error| unreadable(text, error.message))
}

fn not_ascii(text: &str) -> PackageProblem {
    PackageProblem::Unreadable { text: text.to_owned(), message: "a marker has ASCII characters only".into() }
}

fn unreadable(text: &str, error: Pep508ErrorSource<Url>) -> PackageProblem {
    let message = match error {
        Pep508ErrorSource::String(message) | Pep508ErrorSource::UnsupportedRequirement(message) => message,
        Pep508ErrorSource::UrlError(_) => "an invalid URL".into(),
    };
    PackageProblem::Unreadable { text: text.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_that_are_not_ascii_are_refused() {
        for text in ["os_name == 'posix' é", "os_name == 'é'", "(os_name == 'a'\u{feff}", "os_name == 'a' \u{3000}x"]
        {
            assert!(marker(text).is_err(), "{text}");
            assert!(requirement(&format!("a; {text}")).is_err(), "{text}");
        }
        assert!(marker("os_name == 'posix'").is_ok());
        assert!(requirement("a @ https://example.com/ü ; os_name == 'posix'").is_ok());
        assert!(requirement("é").is_err());
    }
}
