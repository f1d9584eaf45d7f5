//! Compatibility tags of wheels (PEP 425, PEP 600, PEP 656).

use std::collections::HashMap;

use ociforge_layers::source::wheel::FileName;

use crate::plan::Libc;
use crate::python::target::WheelTarget;

/// The tags of a target, with their ranks.
#[derive(Debug)]
pub struct CompatibilityTags {
    ranks: HashMap<String, usize>,
}

impl CompatibilityTags {
    /// The tags of CPython on Linux, in the usual order of installers: first by Python tag and ABI, then by platform,
    /// the newest first.
    #[must_use]
    pub fn of(target: &WheelTarget) -> Self {
        Self::on(target, &platforms(target))
    }

    /// The same for an unknown C library: the tags of all of them.
    #[must_use]
    pub fn of_any_libc(target: &WheelTarget) -> Self {
        let on = |libc| platforms(&WheelTarget { libc, ..target.clone() });
        Self::on(target, &[on(Libc::Glibc(2, 99)), on(Libc::Musl(1, 99))].concat())
    }

    fn on(target: &WheelTarget, platforms: &[String]) -> Self {
        let minor = target.python.minor;
        let abi = if minor < 8 { format!("cp3{minor}m") } else { format!("cp3{minor}") };
        let mut tags = Vec::new();
        let mut every = |python: &str, abi: &str| {
            tags.extend(platforms.iter().map(|platform| format!("{python}-{abi}-{platform}")));
        };
        let own = format!("cp3{minor}");
        every(&own, &abi);
        every(&own, "abi3");
        every(&own, "none");
        (2..minor).rev().for_each(|older| every(&format!("cp3{older}"), "abi3"));
        let generic: Vec<String> = [format!("py3{minor}"), "py3".into()]
            .into_iter()
            .chain((0..minor).rev().map(|older| format!("py3{older}")))
            .collect();
        generic.iter().for_each(|python| every(python, "none"));
        tags.push(format!("{own}-none-any"));
        tags.extend(generic.iter().map(|python| format!("{python}-none-any")));
        let mut ranks = HashMap::new();
        for (rank, tag) in tags.into_iter().enumerate() {
            ranks.entry(tag).or_insert(rank);
        }
        Self { ranks }
    }

    /// The rank of a wheel, lower being better; `None` if it does not run.
    #[must_use]
    pub fn rank(&self, wheel: &FileName) -> Option<usize> {
        wheel.tags.each().filter_map(|tag| self.ranks.get(&tag).copied()).min()
    }

    /// The best of several wheels: by rank, then by the higher build number, then by the earlier position.
    pub fn best<T>(&self, wheels: impl IntoIterator<Item = (FileName, T)>) -> Option<T> {
        let ranked = wheels.into_iter().filter_map(|(name, wheel)| Some((self.rank(&name)?, name, wheel)));
        let best = ranked.reduce(|best, next| {
            let newer = next.1.build_order() > best.1.build_order();
            if next.0 < best.0 || (next.0 == best.0 && newer) { next } else { best }
        });
        best.map(|(_, _, wheel)| wheel)
    }
}

/// The platform tags, the best first.
fn platforms(target: &WheelTarget) -> Vec<String> {
    let machine = target.machine();
    let mut tags = Vec::new();
    match target.libc {
        Libc::Glibc(major, newest) => {
            let oldest = if machine == "x86_64" { 5 } else { 17 };
            for minor in (oldest..=newest).rev() {
                tags.push(format!("manylinux_{major}_{minor}_{machine}"));
                let old_names = OLD_NAMES.iter().filter(|(_, of)| *of == minor);
                tags.extend(old_names.map(|(name, _)| format!("{name}_{machine}")));
            }
        }
        Libc::Musl(major, newest) => {
            tags.extend((0..=newest).rev().map(|minor| format!("musllinux_{major}_{minor}_{machine}")));
        }
    }
    tags.push(format!("linux_{machine}"));
    tags
}

/// The legacy names of glibc platforms, with their minor versions.
const OLD_NAMES: [(&str, u32); 3] = [("manylinux2014", 17), ("manylinux2010", 12), ("manylinux1", 5)];

/// The oldest C library that one of the wheel's platform tags names; `None` if the tags name none.
pub(in crate::python) fn required_libc(wheel: &FileName) -> Option<Libc> {
    let old =
        |tag: &str| OLD_NAMES.iter().find(|(name, _)| tag.strip_prefix(name).is_some_and(|rest| rest.starts_with('_')));
    let version = |text: &str| {
        let mut numbers = text.split('_').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    let libcs = wheel.tags.platform.split('.').filter_map(|tag| {
        if let Some((_, minor)) = old(tag) {
            return Some(Libc::Glibc(2, *minor));
        }
        let glibc = tag.strip_prefix("manylinux_").and_then(version).map(|(major, minor)| Libc::Glibc(major, minor));
        glibc
            .or_else(|| tag.strip_prefix("musllinux_").and_then(version).map(|(major, minor)| Libc::Musl(major, minor)))
    });
    libcs.min_by_key(|libc| match libc {
        Libc::Glibc(major, minor) | Libc::Musl(major, minor) => (*major, *minor),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(tags: &CompatibilityTags, file: &str) -> Option<usize> {
        tags.rank(&FileName::parse(file).unwrap())
    }

    #[test]
    fn an_unknown_c_library() {
        let tags = CompatibilityTags::of_any_libc(&WheelTarget::for_tests("3.11", Libc::Glibc(2, 28)));
        for runs in ["cp311-cp311-manylinux_2_41_x86_64", "cp39-abi3-musllinux_1_2_x86_64", "cp311-none-linux_x86_64"] {
            assert!(rank(&tags, &format!("a-1-{runs}.whl")).is_some(), "{runs}");
        }
        for fails in ["cp310-cp310-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_17_aarch64", "cp311-none-win32"] {
            assert_eq!(rank(&tags, &format!("a-1-{fails}.whl")), None, "{fails}");
        }
    }

    #[test]
    fn the_required_c_library() {
        let required = |tag: &str| required_libc(&FileName::parse(&format!("a-1-cp311-cp311-{tag}.whl")).unwrap());
        for (tag, libc) in [
            ("manylinux_2_34_x86_64", Some(Libc::Glibc(2, 34))),
            ("manylinux_2_17_x86_64.manylinux2014_x86_64", Some(Libc::Glibc(2, 17))),
            ("manylinux_2_28_x86_64.manylinux1_x86_64", Some(Libc::Glibc(2, 5))),
            ("musllinux_1_2_aarch64", Some(Libc::Musl(1, 2))),
            ("linux_x86_64", None),
            ("manylinux_x86_64", None),
            ("any", None),
        ] {
            assert_eq!(required(tag), libc, "{tag}");
        }
    }

    #[test]
    fn what_runs_and_what_is_best() {
        let tags = CompatibilityTags::of(&WheelTarget::for_tests("3.11", Libc::Glibc(2, 31)));
        for runs in ["cp311-cp311-manylinux_2_31_x86_64", "cp36-abi3-manylinux2010_x86_64", "py2.py3-none-any"] {
            assert!(rank(&tags, &format!("a-1-{runs}.whl")).is_some(), "{runs}");
        }
        for fails in [
            "cp311-cp311-manylinux_2_32_x86_64",
            "cp311-cp311-manylinux_2_17_aarch64",
            "cp310-cp310-manylinux_2_17_x86_64",
            "cp312-abi3-manylinux_2_17_x86_64",
            "cp311-cp311-musllinux_1_2_x86_64",
            "cp311-cp311-win_amd64",
            "py2-none-any",
        ] {
            assert_eq!(rank(&tags, &format!("a-1-{fails}.whl")), None, "{fails}");
        }
        let files = [
            "a-1-py3-none-any.whl",
            "a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "a-1-1-cp311-cp311-manylinux_2_28_x86_64.whl",
            "a-1-cp39-abi3-manylinux_2_31_x86_64.whl",
        ];
        let best = tags.best(files.iter().map(|file| (FileName::parse(file).unwrap(), *file)));
        assert_eq!(best, Some(files[3]));
    }
}
