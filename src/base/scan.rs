//! The scan of a base's layers.
//!
//! The scan keeps every path and the content of a few hundred small files. The result is the image's tree as a
//! container sees it: upper layers replace and remove entries of lower layers.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};

use ociforge_layers::decompress::decompress;
use ociforge_layers::entries::{EntryKind, TarEntries, TarEntry};
use ociforge_layers::{FileIndex, LayerPath, Metadata, PathError, links, whiteout};

use super::facts::BaseFacts;
use super::file_filter::{self, FileKind};
use super::tree::{Tree, TreeEntry};

/// The maximum size of all kept contents and paths, in bytes. An image of a million files needs about 200 MiB.
const MAX_KEPT: usize = 1 << 30;
/// The maximum size of all kept texts, in bytes.
const MAX_TEXTS: usize = 48 << 20;

/// The maximum length of a path or link target in bytes, as in Linux.
const MAX_PATH: usize = 4096;

/// An error of a scan.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The stream ended early, or is not valid compressed data or a valid tar.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// A name that is invalid in a layer.
    #[error("the layer has an entry with an invalid name")]
    Name(#[from] PathError),
    /// A path above the limit of filesystems.
    #[error("the layer has a path of more than {MAX_PATH} bytes")]
    LongPath,
    /// More files or package metadata than any image has.
    #[error("the layers have more than {} MiB of paths or {} MiB of package metadata", MAX_KEPT >> 20, MAX_TEXTS >> 20)]
    TooMuch,
}

/// Reads layers, the lowest first, and returns their files and facts.
#[derive(Debug)]
pub struct Scanner {
    env: Vec<String>,
    /// Files whose text is kept, besides those of the filter.
    wanted: BTreeSet<LayerPath>,
    below: Tree,
    /// The entries of the current layer: its own whiteouts do not remove them.
    layer: Tree,
}

impl Scanner {
    /// A scanner for an image whose config has this `env`, in the form `KEY=VALUE`.
    #[must_use]
    pub fn new(env: &[String]) -> Self {
        let constraints = super::facts::constraint_files(env);
        let texts = ["etc/os-release", "usr/lib/os-release", "etc/passwd", "etc/group"];
        let wanted = texts.into_iter().map(LayerPath::new).filter_map(Result::ok).chain(constraints);
        Self { env: env.to_vec(), wanted: wanted.collect(), below: Tree::default(), layer: Tree::default() }
    }

    /// Reads the next layer up: a tar, plain or compressed with gzip (any number of members) or zstd, detected by the
    /// first bytes. The reader is read to its end.
    ///
    /// # Errors
    /// When the layer cannot be read, is malformed, or exceeds the limits.
    pub fn layer(&mut self, mut reader: impl BufRead + Send) -> Result<(), ScanError> {
        self.tar(decompress(&mut reader)?)?;
        // A verifying reader reports a mismatch at its end.
        io::copy(&mut reader, &mut io::sink())?;
        Ok(())
    }

    /// The facts from the files of the layers, and all paths.
    #[must_use]
    pub fn finish(self) -> (BaseFacts, FileIndex) {
        (BaseFacts::of(&self.env, &self.below), self.below.into_index().collect())
    }

    fn tar(&mut self, reader: impl Read) -> Result<(), ScanError> {
        let mut entries = TarEntries::new(BufReader::new(reader));
        while let Some(entry) = entries.next_entry().map_err(io::Error::from)? {
            if entry.name.len().max(entry.link.len()) > MAX_PATH {
                return Err(ScanError::LongPath);
            }
            match whiteout::read(LayerPath::new(&entry.name)?)? {
                whiteout::Meaning::Whiteout(path) => self.below.remove(&self.landed(path)),
                whiteout::Meaning::Opaque(path) => self.below.remove_inside(&self.landed(path)),
                whiteout::Meaning::Entry(path) => self.entry(self.landed(path), &entry, &mut entries)?,
            }
            let texts = self.below.texts() + self.layer.texts();
            if texts > MAX_TEXTS || self.below.size() + self.layer.size() > MAX_KEPT {
                return Err(ScanError::TooMuch);
            }
        }
        // The end of the tar need not be the end of the compressed stream.
        io::copy(&mut entries.into_inner(), &mut io::sink())?;
        self.below.append(std::mem::take(&mut self.layer));
        Ok(())
    }

    /// The final path of an entry: links among its parent directories are followed, as an unpacker does.
    fn landed(&self, path: LayerPath) -> LayerPath {
        let link_at = |path: &LayerPath| match self.layer.get(path) {
            Some(_) => self.layer.link_at(path),
            None => self.below.link_at(path),
        };
        links::landed(path, link_at)
    }

    fn entry(&mut self, path: LayerPath, entry: &TarEntry, body: &mut impl Read) -> Result<(), ScanError> {
        if path.is_root() {
            return Ok(());
        }
        for tree in [&mut self.below, &mut self.layer] {
            // A directory merges with an existing one; every other entry replaces the existing entry.
            if entry.kind != EntryKind::Directory || tree.get(&path).is_some_and(|kept| !kept.is_directory()) {
                tree.remove(&path);
            }
        }
        for directory in path.ancestors() {
            if self.layer.get(&directory).or_else(|| self.below.get(&directory)).is_some() {
                break;
            }
            self.layer.insert(directory, TreeEntry::Directory(Metadata::root(0o755, 0)));
        }
        let kept = self.sift(&path, entry, body)?;
        self.layer.insert(path, kept);
        Ok(())
    }

    /// The kept data of an entry.
    fn sift(&self, path: &LayerPath, entry: &TarEntry, body: &mut impl Read) -> Result<TreeEntry, ScanError> {
        match entry.kind {
            EntryKind::Directory => {
                let TarEntry { mode, uid, gid, mtime, xattrs, .. } = entry;
                let (mode, mtime, xattrs) = (mode & 0o7777, mtime.seconds, xattrs.clone());
                Ok(TreeEntry::Directory(Metadata { mode, uid: *uid, gid: *gid, mtime, xattrs }))
            }
            EntryKind::Symlink => Ok(TreeEntry::Symlink(entry.link.clone())),
            EntryKind::Hardlink => {
                let target = self.landed(LayerPath::new(&entry.link)?);
                let kept = self.layer.get(&target).or_else(|| self.below.get(&target));
                match kept {
                    Some(kept) if *kept != TreeEntry::File => Ok(kept.clone()),
                    _ if FileKind::of(path) == FileKind::Python && entry.mode & 0o111 != 0 => Ok(TreeEntry::Executable),
                    _ => Ok(TreeEntry::File),
                }
            }
            EntryKind::Regular => Ok(self.sift_file(path, entry.mode, body)?),
            _ => Ok(TreeEntry::File),
        }
    }

    fn sift_file(&self, path: &LayerPath, mode: u32, body: &mut impl Read) -> io::Result<TreeEntry> {
        let kind = if self.wanted.contains(path) { FileKind::Text } else { FileKind::of(path) };
        Ok(match kind {
            FileKind::Text => TreeEntry::Text(file_filter::text(body)?),
            FileKind::Metadata => TreeEntry::Text(file_filter::metadata(body)?),
            FileKind::DpkgStatus => TreeEntry::Text(file_filter::dpkg_versions(body)?),
            FileKind::Glibc => match file_filter::glibc_version(path, body)? {
                Some((major, minor)) => TreeEntry::Glibc(major, minor),
                None => TreeEntry::File,
            },
            FileKind::Python if mode & 0o111 != 0 => TreeEntry::Executable,
            FileKind::Telling => TreeEntry::Present,
            FileKind::Python | FileKind::Other => TreeEntry::File,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::EntryType;

    use super::*;
    use crate::base::facts::Libc;

    /// An entry: `path/` is a directory, `path -> target` a link, `path!` can be run, else a file with a text.
    fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            if let Some((link, target)) = name.split_once(" -> ") {
                header.set_entry_type(EntryType::Symlink);
                tar.append_link(&mut header, link, target).unwrap();
            } else if name.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, name, io::empty()).unwrap();
            } else {
                header.set_mode(if name.ends_with('!') { 0o755 } else { 0o644 });
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, name.trim_end_matches('!'), text.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    fn scan(env: &[&str], layers: &[&[(&str, &str)]]) -> BaseFacts {
        let mut scanner = Scanner::new(&env.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>());
        for entries in layers {
            scanner.layer(&layer(entries)[..]).unwrap();
        }
        scanner.finish().0
    }

    fn installed(facts: &BaseFacts) -> Vec<String> {
        facts.distributions.iter().map(|d| format!("{}=={} {}", d.name, d.version, d.path)).collect()
    }

    const DEBIAN: &[(&str, &str)] = &[
        ("bin -> usr/bin", ""),
        ("etc/os-release -> ../usr/lib/os-release", ""),
        ("usr/lib/os-release", "ID=ubuntu\nID_LIKE=debian\n"),
        ("usr/bin/python3 -> python3.10", ""),
        ("usr/bin/python3.10!", ""),
        ("usr/lib/x86_64-linux-gnu/libc.so.6!", "... stable release version 2.35.\n"),
        ("usr/lib/python3/dist-packages/six-1.16.0.egg-info", "Name: six\nVersion: 1.16.0\n"),
        ("usr/local/lib/python3.10/dist-packages/Foo_Bar-1.dist-info/METADATA", "Name: Foo_Bar\nVersion: 1\n\nlong"),
        ("var/lib/dpkg/status", "Package: python3.10-minimal\nVersion: 3.10.12-1~22.04\n"),
        ("etc/pip/constraint.txt", "torch==2.5.0a0\n"),
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
    ];

    #[test]
    fn debians_own_python() {
        let facts = scan(&["PIP_CONSTRAINT=/etc/pip/constraint.txt"], &[DEBIAN]);
        let python = facts.python.clone().unwrap();
        assert_eq!((python.version.as_str(), python.full_version.as_deref()), ("3.10", Some("3.10.12")));
        assert_eq!(python.executable, "/usr/bin/python3");
        assert_eq!(python.site_packages, "/usr/local/lib/python3.10/dist-packages");
        assert_eq!(python.prefix, "/usr/local");
        assert_eq!(facts.libc, Some(Libc::Glibc(2, 35)));
        let foo = "Foo_Bar==1 /usr/local/lib/python3.10/dist-packages/Foo_Bar-1.dist-info";
        assert_eq!(installed(&facts), [foo, "six==1.16.0 /usr/lib/python3/dist-packages/six-1.16.0.egg-info"]);
        assert_eq!(facts.distributions[0].metadata, "Name: Foo_Bar\nVersion: 1\n");
        assert_eq!(facts.constraints.as_deref(), Some("torch==2.5.0a0\n"));
        assert!(facts.dpkg && facts.passwd.is_some() && facts.group.is_none());
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<BaseFacts>(&json).unwrap(), facts);
    }

    #[test]
    fn conda_before_the_systems_python() {
        let conda: &[(&str, &str)] = &[
            ("opt/conda/bin/python3 -> python3.8", ""),
            ("opt/conda/bin/python3.8!", ""),
            ("opt/conda/conda-meta/python-3.8.13-h12debd9_0.json", "{}"),
            (
                "opt/conda/lib/python3.8/site-packages/torch-1.14.0a0+410ce96.dist-info/METADATA",
                "Name: torch\nVersion: 1.14.0a0+410ce96\n",
            ),
        ];
        let facts = scan(&["PATH=/opt/conda/bin:/usr/bin:/bin"], &[DEBIAN, conda]);
        let python = facts.python.clone().unwrap();
        assert_eq!(python.site_packages, "/opt/conda/lib/python3.8/site-packages");
        assert_eq!((python.prefix.as_str(), python.full_version.as_deref()), ("/opt/conda", Some("3.8.13")));
        assert_eq!(installed(&facts).len(), 1);
        let facts = scan(&[], &[DEBIAN, conda]);
        assert_eq!(facts.python.unwrap().version, "3.10");
    }

    #[test]
    fn a_virtual_environment() {
        let venv = |cfg: &'static str| {
            [
                ("venv/pyvenv.cfg", cfg),
                ("venv/bin/python -> /bin/python3", ""),
                ("venv/bin/python3 -> python", ""),
                ("venv/lib/python3.10/site-packages/six-2.dist-info/METADATA", "Name: six\nVersion: 2\n"),
            ]
        };
        let env = &["PATH=/venv/bin:/usr/bin"];
        let alone = scan(env, &[DEBIAN, &venv("home = /usr/bin\ninclude-system-site-packages = false\n")]);
        let python = alone.python.clone().unwrap();
        assert_eq!(python.executable, "/venv/bin/python3");
        assert_eq!(python.site_packages, "/venv/lib/python3.10/site-packages");
        assert_eq!(installed(&alone).len(), 1);
        let open = scan(env, &[DEBIAN, &venv("include-system-site-packages = true\n")]);
        assert_eq!(installed(&open).len(), 2);
        assert!(installed(&open)[1].starts_with("six==2"));
    }

    #[test]
    fn a_python_whose_file_has_no_version() {
        let built =
            &[("usr/local/bin/python3!", ""), ("usr/local/lib/python3.12/os.py", ""), ("lib/ld-musl-x86_64.so.1", "")];
        let facts = scan(&["PYTHON_VERSION=3.12.4"], &[built]);
        let python = facts.python.unwrap();
        assert_eq!((python.version.as_str(), python.full_version.as_deref()), ("3.12", Some("3.12.4")));
        assert_eq!(python.site_packages, "/usr/local/lib/python3.12/site-packages");
        assert_eq!(facts.libc, Some(Libc::Musl(1, 2)));
    }

    #[test]
    fn upper_layers_hide_and_replace() {
        let gone: &[(&str, &str)] = &[("usr/local/lib/python3.10/dist-packages/.wh.Foo_Bar-1.dist-info", "")];
        assert_eq!(installed(&scan(&[], &[DEBIAN, gone])).len(), 1);
        // The opaque directory's own entries stay, wherever the marker comes.
        let opaque: &[(&str, &str)] = &[
            ("usr/lib/python3/dist-packages/new-3.dist-info/METADATA", "Name: new\nVersion: 3\n"),
            ("usr/lib/python3/dist-packages/.wh..wh..opq", ""),
        ];
        let facts = scan(&[], &[DEBIAN, opaque]);
        assert_eq!(facts.distributions.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), ["Foo_Bar", "new"]);
        let moved: &[(&str, &str)] = &[("usr/bin/python3 -> python3.12", ""), ("usr/bin/python3.12!", "")];
        assert_eq!(scan(&[], &[DEBIAN, moved]).python.unwrap().version, "3.12");
        // A link that became a directory hides nothing of what it led to, and leads nowhere any more.
        let split: &[(&str, &str)] = &[("bin/", ""), ("usr/bin/python3", "no longer a program")];
        assert_eq!(scan(&["PATH=/bin:/usr/bin"], &[DEBIAN, split]).python, None);
        assert_eq!(scan(&[], &[DEBIAN, &[(".wh.usr", "")]]).python, None);
        // `bin` is a link to `usr/bin`.
        let through: &[(&str, &str)] = &[("bin/python3 -> python3.13", ""), ("bin/python3.13!", "")];
        assert_eq!(scan(&[], &[DEBIAN, through]).python.unwrap().version, "3.13");
        assert_eq!(scan(&[], &[DEBIAN, &[("bin/.wh.python3.10", "")]]).python, None);
    }

    #[test]
    fn compressed_layers() {
        let tar = layer(DEBIAN);
        let (front, back) = tar.split_at(1000);
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let members = [gzip(front), gzip(back)].concat();
        let zstd = zstd::encode_all(&tar[..], 1).unwrap();
        for bytes in [&tar, &members, &zstd] {
            let mut scanner = Scanner::new(&[]);
            scanner.layer(&bytes[..]).unwrap();
            assert_eq!(scanner.finish().0.python.unwrap().version, "3.10");
        }
        for bytes in [&members[..members.len() - 10], &zstd[..zstd.len() - 10], &tar[..1100], b"\x1f\x8bnot gzip"] {
            assert!(Scanner::new(&[]).layer(bytes).is_err());
        }
        assert!(Scanner::new(&[]).layer(io::empty()).is_ok());
    }

    #[test]
    fn hostile_names_and_floods_are_errors() {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..7].copy_from_slice(b"../evil");
        header.set_size(0);
        header.set_cksum();
        assert!(matches!(Scanner::new(&[]).layer(&header.as_bytes()[..]), Err(ScanError::Name(_))));

        let deep = "d/".repeat(5000);
        assert!(matches!(Scanner::new(&[]).layer(&layer(&[(&deep, "")])[..]), Err(ScanError::LongPath)));

        let text = "x".repeat(1 << 20);
        let names: Vec<String> = (0..50).map(|n| format!("{n}/pyvenv.cfg")).collect();
        let flood: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        assert!(matches!(Scanner::new(&[]).layer(&layer(&flood)[..]), Err(ScanError::TooMuch)));
    }
}
