//! Which wheels fit which base (PEP 425, 600, 656).

use std::fmt;

use super::error::Fault;
use super::filename::Tags;

/// What a wheel has to fit: a CPython on Linux.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Interpreter {
    /// Major and minor version of Python.
    pub python: (u32, u32),
    /// The machine as wheels name it: `x86_64`, `aarch64`.
    pub machine: String,
    /// The C library.
    pub libc: Libc,
}

/// A C library and its version, major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Libc {
    /// The GNU C library.
    Glibc(u32, u32),
    /// musl.
    Musl(u32, u32),
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (libc, (major, minor)) = match self.libc {
            Libc::Glibc(major, minor) => ("glibc", (major, minor)),
            Libc::Musl(major, minor) => ("musl", (major, minor)),
        };
        let (x, y) = self.python;
        write!(f, "CPython {x}.{y} on {} with {libc} {major}.{minor}", self.machine)
    }
}

impl Interpreter {
    /// Checks that one of the tags is for this interpreter.
    ///
    /// # Errors
    /// [`Fault::Incompatible`] when none is.
    pub fn check(&self, tags: &Tags) -> Result<(), Fault> {
        let platform = tags.platform.split('.').any(|platform| self.is_platform(platform));
        let mut pairs = tags.python.split('.').flat_map(|python| tags.abi.split('.').map(move |abi| (python, abi)));
        if platform && pairs.any(|(python, abi)| self.is_python(python, abi)) {
            return Ok(());
        }
        Err(Fault::Incompatible { wheel: tags.to_string(), base: self.to_string() })
    }

    /// Checks a `Requires-Python` against every patch release that the interpreter may be.
    ///
    /// # Errors
    /// [`Fault::RequiresPython`] when none of them fits. Text that is no version specifier fits all.
    pub fn check_python(&self, requires: &str) -> Result<(), Fault> {
        let Ok(specifiers) = requires.parse::<pep440_rs::VersionSpecifiers>() else { return Ok(()) };
        let (major, minor) = self.python;
        let mut patches = (0..100).map(|patch| pep440_rs::Version::new([major.into(), minor.into(), patch]));
        if patches.any(|version| specifiers.contains(&version)) {
            return Ok(());
        }
        Err(Fault::RequiresPython { requires: requires.to_owned(), base: format!("{major}.{minor}") })
    }

    fn is_python(&self, python: &str, abi: &str) -> bool {
        let version = (python.len() > 2).then(|| python.split_at_checked(2)).flatten();
        let Some((kind, (major, minor))) = version.and_then(|(kind, digits)| Some((kind, version_of(digits)?))) else {
            return false;
        };
        if major != self.python.0 {
            return false;
        }
        match (kind, abi, minor) {
            ("py", "none", None) => true,
            ("py", "none", Some(minor)) => minor <= self.python.1,
            ("cp", "none", minor) => minor.is_none_or(|minor| minor == self.python.1),
            ("cp", "abi3", Some(minor)) => (2..=self.python.1).contains(&minor),
            ("cp", abi, Some(minor)) => minor == self.python.1 && self.is_own_abi(python, abi),
            _ => false,
        }
    }

    /// `cp311`; up to Python 3.7 with the `m` of pymalloc.
    fn is_own_abi(&self, python: &str, abi: &str) -> bool {
        abi == if self.python < (3, 8) { format!("{python}m") } else { python.to_owned() }
    }

    fn is_platform(&self, platform: &str) -> bool {
        if platform == "any" {
            return true;
        }
        let Some(kind) = platform.strip_suffix(&self.machine).and_then(|kind| kind.strip_suffix('_')) else {
            return false;
        };
        let numbers = |prefix: &str| {
            let (major, minor) = kind.strip_prefix(prefix)?.split_once('_')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        };
        match self.libc {
            Libc::Glibc(major, minor) => {
                let needed = match kind {
                    "manylinux1" => Some((2, 5)),
                    "manylinux2010" => Some((2, 12)),
                    "manylinux2014" => Some((2, 17)),
                    _ => numbers("manylinux_"),
                };
                kind == "linux" || needed.is_some_and(|(x, y): (u32, u32)| x == major && y <= minor)
            }
            Libc::Musl(major, minor) => {
                kind == "linux" || numbers("musllinux_").is_some_and(|(x, y): (u32, u32)| x == major && y <= minor)
            }
        }
    }
}

/// `3` and `311` as versions: the first digit is the major one.
fn version_of(digits: &str) -> Option<(u32, Option<u32>)> {
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (major, minor) = digits.split_at_checked(1)?;
    let minor = if minor.is_empty() { None } else { Some(minor.parse().ok()?) };
    Some((major.parse().ok()?, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(tags: &str, interpreter: &Interpreter) -> bool {
        let [python, abi, platform] = tags.split('-').collect::<Vec<_>>()[..] else { panic!("{tags}") };
        let tags = Tags { python: python.into(), abi: abi.into(), platform: platform.into() };
        interpreter.check(&tags).is_ok()
    }

    fn base() -> Interpreter {
        Interpreter { python: (3, 11), machine: "x86_64".into(), libc: Libc::Glibc(2, 28) }
    }

    #[test]
    fn what_fits_and_what_does_not() {
        for tags in [
            "py3-none-any",
            "py2.py3-none-any",
            "py311-none-any",
            "py30-none-linux_x86_64",
            "cp311-none-any",
            "cp3-none-any",
            "cp311-cp311-manylinux_2_28_x86_64",
            "cp39-abi3-manylinux2014_x86_64",
            "cp311-abi3-manylinux1_x86_64",
            "cp310.cp311-cp310.cp311-linux_x86_64",
            "py3-none-manylinux_2_31_x86_64.manylinux2010_x86_64",
        ] {
            assert!(fits(tags, &base()), "{tags}");
        }
        for tags in [
            "py2-none-any",
            "py312-none-any",
            "cp310-cp310-manylinux1_x86_64",
            "cp310-none-any",
            "cp312-abi3-manylinux1_x86_64",
            "cp311-cp311t-manylinux1_x86_64",
            "cp311-cp311-manylinux_2_29_x86_64",
            "cp311-cp311-manylinux_2_17_aarch64",
            "cp311-cp311-musllinux_1_1_x86_64",
            "cp311-cp311-win_amd64",
            "cp311-cp311-macosx_11_0_x86_64",
            "pp39-pypy39_pp73-manylinux1_x86_64",
            "x-none-any",
            "pyé-none-any",
        ] {
            assert!(!fits(tags, &base()), "{tags}");
        }
        let old = Interpreter { python: (3, 7), ..base() };
        assert!(fits("cp37-cp37m-manylinux1_x86_64", &old) && !fits("cp37-cp37-manylinux1_x86_64", &old));
        let alpine = Interpreter { libc: Libc::Musl(1, 2), ..base() };
        assert!(fits("cp311-cp311-musllinux_1_1_x86_64", &alpine) && !fits("py3-none-manylinux1_x86_64", &alpine));
    }

    #[test]
    fn requires_python() {
        for fits in [">=3.8", ">=3.11.4", "!=3.11.0", "<3.12", "~=3.9", "", "nonsense"] {
            assert!(base().check_python(fits).is_ok(), "{fits}");
        }
        for other in [">=3.12", "<3.11", "==3.10.*", "!=3.11.*"] {
            assert!(base().check_python(other).is_err(), "{other}");
        }
    }
}
