//! Selection of the files of an image that contain facts, and of the relevant parts of their content.

use std::io::{self, BufRead, BufReader, Read};

use ociforge_layers::LayerPath;

/// Maximum size of a kept text in bytes; longer ones are truncated.
const MAX_TEXT: u64 = 1 << 20;
/// Maximum read size of a distribution's metadata in bytes.
const MAX_METADATA: u64 = 256 << 10;
/// Maximum length of an examined line in dpkg's status, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// The kind of a regular file, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A file whose whole text is kept.
    Text,
    /// A distribution's `METADATA` or `PKG-INFO`.
    Metadata,
    /// dpkg's list of packages.
    DpkgStatus,
    /// The C library.
    Glibc,
    /// A Python interpreter, if it is executable.
    Python,
    /// Its name is sufficient.
    NameOnly,
    Other,
}

impl FileKind {
    pub(super) fn of(path: &LayerPath) -> Self {
        let name = path.file_name();
        let parent = path.parent().unwrap_or_default();
        let directory = parent.file_name();
        match name {
            b"pyvenv.cfg" => Self::Text,
            b"METADATA" if directory.ends_with(b".dist-info") && in_packages(&parent) => Self::Metadata,
            b"PKG-INFO" if directory.ends_with(b".egg-info") && in_packages(&parent) => Self::Metadata,
            _ if name.ends_with(b".egg-info") && in_packages(path) => Self::Metadata,
            b"status" if path.as_bytes() == b"var/lib/dpkg/status" => Self::DpkgStatus,
            _ if is_glibc(path) => Self::Glibc,
            _ if name.starts_with(b"ld-musl-") && directory == b"lib" => Self::NameOnly,
            _ if name.starts_with(b"python-3.") && directory == b"conda-meta" => Self::NameOnly,
            b"python" | b"python3" => Self::Python,
            _ if minor_version(name).is_some() => Self::Python,
            _ => Self::Other,
        }
    }
}

/// The `11` of `python3.11`.
pub(super) fn minor_version(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name.strip_prefix(b"python3.")?).ok()?.parse().ok()
}

/// Whether the parent of `path` is a directory of packages.
fn in_packages(path: &LayerPath) -> bool {
    path.parent().is_some_and(|parent| matches!(parent.file_name(), b"site-packages" | b"dist-packages"))
}

/// Whether it is the system's C library, as opposed to that of a cross compiler or a conda sysroot.
fn is_glibc(path: &LayerPath) -> bool {
    let name = path.file_name();
    let named = name == b"libc.so.6" || (name.starts_with(b"libc-2.") && name.ends_with(b".so"));
    let bytes = path.as_bytes().strip_prefix(b"usr/").unwrap_or(path.as_bytes());
    let mut directories = bytes.split(|byte| *byte == b'/');
    let library = matches!(directories.next(), Some(b"lib" | b"lib64"));
    let inside: Vec<&[u8]> = directories.collect();
    named && library && (inside.len() == 1 || (inside.len() == 2 && inside[0].ends_with(b"-linux-gnu")))
}

/// A text with invalid UTF-8 replaced.
pub(super) fn text(body: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    body.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A distribution's metadata up to its first blank line, which omits the description.
pub(super) fn metadata(body: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    body.take(MAX_METADATA).read_to_end(&mut bytes)?;
    let mut header = String::new();
    for line in String::from_utf8_lossy(&bytes).lines().take_while(|line| !line.trim().is_empty()) {
        header.push_str(line);
        header.push('\n');
    }
    Ok(header)
}

/// The lines `package version` for the packages of Python and the C library in dpkg's status.
pub(super) fn dpkg_versions(body: &mut impl Read) -> io::Result<String> {
    let mut reader = BufReader::new(body);
    let (mut found, mut package, mut line) = (String::new(), String::new(), Vec::new());
    loop {
        line.clear();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(name) = text.strip_prefix("Package: ") {
            name.trim().clone_into(&mut package);
        } else if let Some(version) = text.strip_prefix("Version: ") {
            let python = package.strip_suffix("-minimal").is_some_and(|name| minor_version(name.as_bytes()).is_some());
            if (python || package == "libc6") && found.len() < 4096 {
                found += &format!("{package} {}\n", version.trim());
            }
        }
    }
}

/// The version of glibc: in the file's name (before 2.34), or else in the library's version text.
pub(super) fn glibc_version(path: &LayerPath, body: &mut impl Read) -> io::Result<Option<(u32, u32)>> {
    let name = path.file_name();
    if let Some(version) = name.strip_prefix(b"libc-").and_then(|rest| rest.strip_suffix(b".so")) {
        return Ok(numbers(version));
    }
    const SAYS: &[u8] = b" release version ";
    const TAIL: usize = SAYS.len() + 16;
    let mut window = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = body.read(&mut chunk)?;
        window.extend_from_slice(&chunk[..count]);
        let end = if count == 0 { window.len() } else { window.len().saturating_sub(TAIL) };
        let found = window.windows(SAYS.len()).take(end).position(|bytes| bytes == SAYS);
        if let Some(version) = found.and_then(|at| numbers(&window[at + SAYS.len()..])) {
            return Ok(Some(version));
        }
        if count == 0 {
            return Ok(None);
        }
        window.drain(..end);
    }
}

/// The first two numbers of a version.
fn numbers(text: &[u8]) -> Option<(u32, u32)> {
    let mut parts = text.splitn(3, |byte| *byte == b'.').map(|part| {
        let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&part[..digits]).ok()?.parse().ok()
    });
    Some((parts.next()??, parts.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let kind = |name: &str| FileKind::of(&name.parse().unwrap());
        assert_eq!(kind("usr/bin/python3.11"), FileKind::Python);
        assert_eq!(kind("usr/bin/python3.11-config"), FileKind::Other);
        assert_eq!(kind("usr/bin/python2.7"), FileKind::Other);
        assert_eq!(kind("lib/x86_64-linux-gnu/libc.so.6"), FileKind::Glibc);
        assert_eq!(kind("usr/lib64/libc-2.28.so"), FileKind::Glibc);
        assert_eq!(kind("opt/conda/x86_64-conda-linux-gnu/sysroot/lib64/libc-2.17.so"), FileKind::Other);
        assert_eq!(kind("usr/lib/python3/dist-packages/six-1.16.0.egg-info"), FileKind::Metadata);
        assert_eq!(kind("s/site-packages/setuptools/_vendor/x-1.dist-info/METADATA"), FileKind::Other);
        assert_eq!(kind("s/site-packages/x-1.dist-info/METADATA"), FileKind::Metadata);
    }

    #[test]
    fn glibc_says_its_version_wherever_it_falls_in_the_file() {
        let path: LayerPath = "lib/libc.so.6".parse().unwrap();
        let says = b"GNU C Library (Debian GLIBC 2.36-9+deb12u9) stable release version 2.36.\nCopyright";
        for before in [0, 65_500, 65_536 - 60, 200_000] {
            let file = [vec![b'.'; before], says.to_vec()].concat();
            assert_eq!(glibc_version(&path, &mut &file[..]).unwrap(), Some((2, 36)), "{before}");
        }
        assert_eq!(glibc_version(&path, &mut &b"nothing"[..]).unwrap(), None);
        let named: LayerPath = "lib/libc-2.31.so".parse().unwrap();
        assert_eq!(glibc_version(&named, &mut io::empty()).unwrap(), Some((2, 31)));
    }

    #[test]
    fn dpkg_tells_of_pythons_and_libc() {
        let status = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\n\nPackage: python3.11-minimal\n\
                      Depends: x\nVersion: 3.11.2-6+deb12u6\n\nPackage: python3\nVersion: 3.11.2-1\n";
        let versions = dpkg_versions(&mut status.as_bytes()).unwrap();
        assert_eq!(versions, "libc6 2.36-9\npython3.11-minimal 3.11.2-6+deb12u6\n");
    }
}
