//! Which wheels run where: compatibility tags (PEP 425, PEP 600, PEP 656) and wheel file names (PEP 427).

use std::collections::HashMap;

use super::target::Target;
use crate::base::facts::Libc;

/// The parts of a wheel's file name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelName {
    /// The distribution as the file name writes it.
    pub distribution: String,
    /// The version as the file name writes it.
    pub version: String,
    /// The build number, and what follows it.
    pub build: Option<(u64, String)>,
    /// Tags of the form `cp311-cp311-manylinux_2_17_x86_64`, compressed sets taken apart.
    pub tags: Vec<String>,
}

impl WheelName {
    /// Takes a file name apart; `None` when it is not of a wheel's form.
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let (build, tags) = match parts.len() {
            5 => (None, &parts[2..]),
            6 => {
                let digits = parts[2].find(|c: char| !c.is_ascii_digit()).unwrap_or(parts[2].len());
                (Some((parts[2][..digits].parse().ok()?, parts[2][digits..].to_owned())), &parts[3..])
            }
            _ => return None,
        };
        let usable = |part: &&str| !part.is_empty() && !part.contains(['/', '\0']) && !part.starts_with('.');
        if !parts.iter().all(usable) {
            return None;
        }
        let mut all = Vec::new();
        for python in tags[0].split('.') {
            for abi in tags[1].split('.') {
                all.extend(tags[2].split('.').map(|platform| format!("{python}-{abi}-{platform}")));
            }
        }
        Some(Self { distribution: parts[0].into(), version: parts[1].into(), build, tags: all })
    }
}

/// The tags that a target takes, and how much it likes each.
#[derive(Debug)]
pub struct Tags {
    ranks: HashMap<String, usize>,
}

impl Tags {
    /// The tags of CPython on Linux, in the order that installers agree on: first by Python tag and ABI, then by
    /// platform, the newest first.
    #[must_use]
    pub fn of(target: &Target) -> Self {
        let (minor, platforms) = (target.python.minor, platforms(target));
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

    /// How well a wheel suits, lower being better; `None` when it does not run.
    #[must_use]
    pub fn rank(&self, wheel: &WheelName) -> Option<usize> {
        wheel.tags.iter().filter_map(|tag| self.ranks.get(tag).copied()).min()
    }

    /// The best of several wheels: by tag, then by the higher build number, then by the earlier place.
    pub fn best<T>(&self, wheels: impl IntoIterator<Item = (WheelName, T)>) -> Option<T> {
        let ranked = wheels.into_iter().filter_map(|(name, wheel)| Some((self.rank(&name)?, name.build, wheel)));
        let best = ranked.reduce(|best, next| {
            let better = next.0 < best.0 || (next.0 == best.0 && next.1 > best.1);
            if better { next } else { best }
        });
        best.map(|(_, _, wheel)| wheel)
    }
}

/// The platform tags, the best first.
fn platforms(target: &Target) -> Vec<String> {
    let machine = target.machine();
    let mut tags = Vec::new();
    match target.libc {
        Libc::Glibc(major, newest) => {
            let oldest = if machine == "x86_64" { 5 } else { 17 };
            for minor in (oldest..=newest).rev() {
                tags.push(format!("manylinux_{major}_{minor}_{machine}"));
                let old_name = match minor {
                    17 => "manylinux2014",
                    12 => "manylinux2010",
                    5 => "manylinux1",
                    _ => continue,
                };
                tags.push(format!("{old_name}_{machine}"));
            }
        }
        Libc::Musl(major, newest) => {
            tags.extend((0..=newest).rev().map(|minor| format!("musllinux_{major}_{minor}_{machine}")));
        }
    }
    tags.push(format!("linux_{machine}"));
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(tags: &Tags, file: &str) -> Option<usize> {
        tags.rank(&WheelName::parse(file).unwrap())
    }

    #[test]
    fn file_names() {
        let name = WheelName::parse("a_b-1.0+cu-2x-py2.py3-none-manylinux1_x86_64.any.whl").unwrap();
        assert_eq!((name.distribution.as_str(), name.version.as_str()), ("a_b", "1.0+cu"));
        assert_eq!(name.build, Some((2, "x".into())));
        assert_eq!(name.tags.len(), 4);
        for bad in ["a-1-py3-none-any.zip", "a-1-py3-none.whl", "a-1-x-py3-none-any.whl", "../a-1-py3-none-any.whl", ""]
        {
            assert_eq!(WheelName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_runs_and_what_is_best() {
        let tags = Tags::of(&Target::for_tests("3.11", Libc::Glibc(2, 31)));
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
        let best = tags.best(files.iter().map(|file| (WheelName::parse(file).unwrap(), *file)));
        assert_eq!(best, Some(files[3]));
    }
}
