//! The assumptions about a base whose layers are not read: the directories of the Filesystem Hierarchy Standard as in
//! the images of Debian, Ubuntu and NVIDIA, and the names that are symbolic links in some distribution.

use crate::path::LayerPath;
use crate::tree::Metadata;

/// The probable entry of a base at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Assumption {
    /// A directory with these attributes, except for its time.
    Directory(Metadata),
    /// Nothing.
    Absent,
    /// Differs between bases: the base must be read.
    Unknown,
}

/// Directories of root with mode 0755.
const DIRECTORIES: &[&str] = &[
    "boot",
    "dev",
    "etc",
    "etc/apt",
    "etc/apt/apt.conf.d",
    "etc/apt/keyrings",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "etc/apt/trusted.gpg.d",
    "etc/cron.d",
    "etc/default",
    "etc/ld.so.conf.d",
    "etc/opt",
    "etc/profile.d",
    "etc/security",
    "etc/skel",
    "etc/ssl",
    "etc/systemd",
    "etc/systemd/system",
    "home",
    "media",
    "mnt",
    "opt",
    "proc",
    "run",
    "srv",
    "sys",
    "usr",
    "usr/bin",
    "usr/games",
    "usr/include",
    "usr/lib",
    "usr/lib32",
    "usr/libexec",
    "usr/local",
    "usr/local/bin",
    "usr/local/etc",
    "usr/local/games",
    "usr/local/include",
    "usr/local/lib",
    "usr/local/share",
    "usr/local/src",
    "usr/share",
    "usr/share/applications",
    "usr/share/doc",
    "usr/share/icons",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/src",
    "var",
    "var/backups",
    "var/cache",
    "var/lib",
    "var/log",
    "var/opt",
    "var/spool",
];

/// Directories with another mode or group.
const SPECIAL: &[(&str, u32, u64)] = &[
    ("root", 0o700, 0),
    ("run/lock", 0o1777, 0),
    ("tmp", 0o1777, 0),
    ("var/local", 0o2775, 50),
    ("var/tmp", 0o1777, 0),
];

/// Links to directories in a common distribution: merged /usr, Arch's, Fedora's and Alpine's merged `sbin`, /run, CUDA.
const LINKS: &[&str] = &[
    "bin",
    "etc/init.d",
    "etc/ssl/certs",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "sbin",
    "usr/lib64",
    "usr/libx32",
    "usr/local/cuda",
    "usr/local/lib64",
    "usr/local/man",
    "usr/local/sbin",
    "usr/local/share/man",
    "usr/man",
    "usr/sbin",
    "usr/tmp",
    "var/lock",
    "var/run",
];

/// Links to files, which a copy follows.
const FILE_LINKS: &[&str] = &[
    "etc/localtime",
    "etc/mtab",
    "etc/os-release",
    "etc/resolv.conf",
    "usr/bin/awk",
    "usr/bin/c++",
    "usr/bin/cc",
    "usr/bin/editor",
    "usr/bin/pager",
    "usr/bin/pip",
    "usr/bin/pip3",
    "usr/bin/python",
    "usr/bin/python3",
    "usr/bin/sh",
    "usr/bin/vi",
];

/// Below these, bases have directories of many owners and modes, and links.
const VARIED: &[&str] = &["etc", "home", "root", "run", "usr/local/cuda", "var"];

/// Exceptions below them, where bases have nothing.
const EMPTY: &[&str] = &["var/tmp", "var/local", "var/opt"];

/// Directories that distributions and Python's images fill with files, links and directories. A new directory in one of
/// them may meet any of these.
const FILLED: &[&str] =
    &["usr/bin", "usr/include", "usr/lib", "usr/lib32", "usr/libexec", "usr/local/bin", "usr/share", "usr/src"];

/// The assumption for a directory on the way to an entry.
pub(crate) fn directory(path: &LayerPath) -> Assumption {
    if let Some(metadata) = known_directory(path) {
        return Assumption::Directory(metadata);
    }
    let varies = path.file_name() == b"lib64" || is_odd_site_packages(path) || is_varied(path) || is_in_filled(path);
    if varies || listed(LINKS, path) { Assumption::Unknown } else { Assumption::Absent }
}

/// The assumption for a file that replaces links: its place may be a directory.
pub(crate) fn file(path: &LayerPath) -> Assumption {
    match known_directory(path) {
        Some(metadata) => Assumption::Directory(metadata),
        None if is_varied(path) => Assumption::Unknown,
        None => Assumption::Absent,
    }
}

fn is_varied(path: &LayerPath) -> bool {
    let below = |tops: &[&str]| path.ancestors().any(|above| listed(tops, &above));
    below(VARIED) && !below(EMPTY)
}

/// Whether a path is below a directory that bases fill. Directories of Python modules and headers do not count: wheels
/// are installed there, and distributions have only directories there.
fn is_in_filled(path: &LayerPath) -> bool {
    let is_python = |step: &LayerPath| {
        let place = step.parent().unwrap_or_default();
        step.file_name().starts_with(b"python3") && matches!(place.as_bytes(), b"usr/lib" | b"usr/include")
    };
    path.ancestors().any(|above| listed(FILLED, &above)) && !path.steps().any(|step| is_python(&step))
}

/// The assumption for a file that follows links, named in the recipe.
pub(crate) fn named_file(path: &LayerPath) -> Assumption {
    let link = listed(LINKS, path) || listed(FILE_LINKS, path);
    let alternative = path.parent().is_some_and(|parent| parent.as_bytes() == b"etc/alternatives");
    match known_directory(path) {
        Some(metadata) => Assumption::Directory(metadata),
        None if link || alternative => Assumption::Unknown,
        None => Assumption::Absent,
    }
}

/// The assumption for a file whose source has another name: its place may be a directory to copy into, except in
/// directories of programs.
pub(crate) fn renamed_file(path: &LayerPath) -> Assumption {
    match named_file(path) {
        Assumption::Absent if !matches!(path.parent().unwrap_or_default().file_name(), b"bin" | b"sbin") => {
            Assumption::Unknown
        }
        assumption => assumption,
    }
}

fn known_directory(path: &LayerPath) -> Option<Metadata> {
    if listed(DIRECTORIES, path) {
        return Some(Metadata::root(0o755, 0));
    }
    let (_, mode, gid) = SPECIAL.iter().find(|(name, ..)| name.as_bytes() == path.as_bytes())?;
    Some(Metadata { gid: *gid, ..Metadata::root(*mode, 0) })
}

fn listed(names: &[&str], path: &LayerPath) -> bool {
    names.iter().any(|name| name.as_bytes() == path.as_bytes())
}

/// Whether it is a directory of Python packages outside of the usual places of distributions, Python's images and
/// conda.
fn is_odd_site_packages(path: &LayerPath) -> bool {
    if !matches!(path.file_name(), b"site-packages" | b"dist-packages") {
        return false;
    }
    let library = path.parent().unwrap_or_default();
    let prefix = library.parent().unwrap_or_default();
    let usual = library.file_name().starts_with(b"python3")
        && matches!(prefix.as_bytes(), b"usr/lib" | b"usr/local/lib" | b"opt/conda/lib");
    !usual
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assumptions() {
        let path = |name: &str| -> LayerPath { name.parse().unwrap() };
        let mode = |name: &str| match directory(&path(name)) {
            Assumption::Directory(metadata) => (metadata.mode, metadata.gid),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(
            [mode("usr/local/bin"), mode("tmp"), mode("root"), mode("var/cache")],
            [(0o755, 0), (0o1777, 0), (0o700, 0), (0o755, 0)]
        );
        for name in [
            "bin",
            "usr/lib64",
            "usr/sbin",
            "opt/venv/lib64",
            "home/app",
            "root/.cache",
            "var/lib/x",
            "var/mail",
            "etc/nginx",
            "var/run",
            "usr/bin/python3",
            "usr/local/bin/python3",
            "usr/lib/x86_64-linux-gnu",
            "usr/share/app",
            "usr/share/fonts/own",
        ] {
            assert_eq!(directory(&path(name)), Assumption::Unknown, "{name}");
        }
        for name in ["opt/venv/lib/python3.11/site-packages", "usr/lib/venv/site-packages"] {
            assert_eq!(directory(&path(name)), Assumption::Unknown, "{name}");
        }
        for name in [
            "code",
            "opt/app",
            "srv/www",
            "usr/local/lib/python3.11",
            "usr/local/lib/python3.11/dist-packages",
            "opt/conda/lib/python3.8/site-packages",
            "usr/lib/python3",
            "usr/lib/python3/dist-packages",
            "usr/include/python3.11/greenlet",
            "usr/local/share/jupyter",
            "tmp/build",
            "var/tmp/x",
        ] {
            assert_eq!(directory(&path(name)), Assumption::Absent, "{name}");
        }
        assert_eq!(file(&path("etc/app.conf")), Assumption::Unknown);
        assert_eq!(file(&path("usr/local/bin/app")), Assumption::Absent);
        assert_eq!(named_file(&path("etc/os-release")), Assumption::Unknown);
        assert_eq!(named_file(&path("etc/app.conf")), Assumption::Absent);
        assert_eq!(renamed_file(&path("etc/app.conf")), Assumption::Unknown);
        assert_eq!(renamed_file(&path("usr/local/bin/tool")), Assumption::Absent);
        assert!(matches!(renamed_file(&path("usr/local/bin")), Assumption::Directory(_)));
    }
}
