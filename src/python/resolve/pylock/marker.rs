//! Environment markers (PEP 508), with the extensions of PEP 751.

use std::collections::BTreeSet;

use ociforge_layers::source::wheel::normalize;
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder};

use crate::python::error::{PackageProblem, ResolveError};
use crate::python::resolve::pep508;
use crate::python::target::WheelTarget;

/// The environment of markers.
pub(super) struct Environment {
    environment: MarkerEnvironment,
    extras: BTreeSet<String>,
    groups: BTreeSet<String>,
}

/// The environment of a target, without extras and groups. Variables that only a running system has are empty.
pub(in crate::python) fn marker_environment(target: &WheelTarget) -> Result<MarkerEnvironment, ResolveError> {
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
    builder.try_into().map_err(|_| ResolveError::Target { target: target.to_string() })
}

impl Environment {
    pub(super) fn new<'a>(
        target: &WheelTarget,
        extras: impl IntoIterator<Item = &'a String>,
        groups: impl IntoIterator<Item = &'a String>,
    ) -> Result<Self, ResolveError> {
        Ok(Self {
            environment: marker_environment(target)?,
            extras: extras.into_iter().map(|name| normalize(name)).collect(),
            groups: groups.into_iter().map(|name| normalize(name)).collect(),
        })
    }

    /// Whether a marker is true.
    pub(super) fn applies(&self, marker: &str) -> Result<bool, PackageProblem> {
        let text = self.without_sets(marker);
        let tree = pep508::marker(&text).map_err(|problem| match problem {
            PackageProblem::Unreadable { message, .. } => {
                PackageProblem::Unreadable { text: marker.to_owned(), message }
            }
            other => other,
        })?;
        Ok(tree.evaluate(&self.environment, &[]))
    }

    /// Replaces the expressions `'x' in extras` and `'x' in dependency_groups` of PEP 751 by expressions of PEP 508
    /// with the same value.
    fn without_sets(&self, marker: &str) -> String {
        const FALSE: &str = "os_name == ''";
        const TRUE: &str = "os_name != ''";
        let mut text = marker.to_owned();
        for (name, set) in [("extras", &self.extras), ("dependency_groups", &self.groups)] {
            while let Some(Membership { start, end, element, negated }) = membership(&text, name) {
                let holds = set.contains(&normalize(element)) != negated;
                text.replace_range(start..end, if holds { TRUE } else { FALSE });
            }
        }
        text
    }
}

/// `'element' in set` or `'element' not in set`, and its position in a marker.
struct Membership<'a> {
    start: usize,
    end: usize,
    element: &'a str,
    negated: bool,
}

/// The first membership test of `set`.
fn membership<'a>(text: &'a str, set: &str) -> Option<Membership<'a>> {
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
    let inside = &before[..before.len() - 1];
    let start = inside.rfind(quote)?;
    Some(Membership { start, end: at + set.len(), element: &inside[start + 1..], negated })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Libc;

    #[test]
    fn markers() {
        let target = WheelTarget::for_tests("3.11.4", Libc::Glibc(2, 31));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let environment = Environment::new(&target, &names(&["Gpu_x"]), &names(&["default", "test"])).unwrap();
        for (marker, holds) in [
            ("sys_platform == 'linux'", true),
            ("sys_platform == 'win32' or platform_machine == 'aarch64'", false),
            ("python_full_version < '3.11.4'", false),
            ("python_version >= '3.11' and implementation_name == 'cpython'", true),
            ("'cuda' in extras", false),
            ("'gpu.X' in extras", true),
            ("'gpu-x' not in extras", false),
            ("\"default\" in dependency_groups", true),
            ("'dev' in dependency_groups or 'TEST' in dependency_groups", true),
            ("'default' in extras or 'gpu-x' in dependency_groups", false),
            ("'cuda' not in extras and 'dev' not in dependency_groups", true),
            ("sys_platform == 'linux' and ('a' in dependency_groups or 'b' not in extras)", true),
            ("sys_platform == 'win32' and 'default' in dependency_groups", false),
        ] {
            assert_eq!(environment.applies(marker).unwrap(), holds, "{marker}");
        }
        assert!(environment.applies("é in == (").unwrap_err().to_string().contains("cannot parse"));
    }
}
