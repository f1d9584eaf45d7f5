//! The facts about a base's filesystem: the files that a merge of its layers keeps.
//!
//! The filter keeps every path, and the content of a few hundred small files.

use std::collections::BTreeSet;
use std::io::{self, Read};

use ociforge_layers::entries::{EntryKind, TarEntry};
use ociforge_layers::merge::{EntryFilter, HardlinkTarget, MergeError};
use ociforge_layers::path_map::PathMap;
use ociforge_layers::{FileIndex, LayerPath, Metadata};

use super::facts::BaseFacts;
use super::file_filter::{self, FileKind};
use super::tree::{Tree, TreeEntry};

/// The maximum size of all kept contents and paths of all layers, in bytes. An image of a million files needs about
/// 200 MiB.
const MAX_KEPT: usize = 1 << 30;
/// The maximum size of all kept texts of all layers, in bytes.
const MAX_TEXTS: usize = 48 << 20;

/// More files or package metadata than any image has.
#[derive(Debug, thiserror::Error)]
#[error("the layers have more than {} MiB of paths or {} MiB of package metadata", MAX_KEPT >> 20, MAX_TEXTS >> 20)]
pub struct TooManyFiles;

/// Keeps every path, and the content of files with facts.
#[derive(Debug)]
pub(super) struct FactsFilter {
    env: Vec<String>,
    /// Files whose text is kept, besides those that [`FileKind`] names.
    texts: BTreeSet<LayerPath>,
    /// The size of all data and of all texts that were kept, in bytes.
    kept_size: usize,
    kept_texts: usize,
}

impl FactsFilter {
    /// A filter for an image whose config has this `env`, in the form `KEY=VALUE`.
    pub(super) fn new(env: &[String]) -> Self {
        let constraints = super::facts::constraint_files(env);
        let texts = ["etc/os-release", "usr/lib/os-release", "etc/passwd", "etc/group"];
        let texts = texts.into_iter().map(LayerPath::new).filter_map(Result::ok).chain(constraints);
        Self { env: env.to_vec(), texts: texts.collect(), kept_size: 0, kept_texts: 0 }
    }

    /// The facts from the files of the merged layers, and all paths.
    pub(super) fn facts(self, merged: PathMap<TreeEntry>) -> (BaseFacts, FileIndex) {
        let tree = Tree::from(merged);
        (BaseFacts::of(&self.env, &tree), tree.into_index().collect())
    }

    fn count(&mut self, path: &LayerPath, kept: &TreeEntry) -> Result<(), TooManyFiles> {
        self.kept_size += kept.size(path);
        self.kept_texts += kept.text().map_or(0, str::len);
        if self.kept_texts > MAX_TEXTS || self.kept_size > MAX_KEPT { Err(TooManyFiles) } else { Ok(()) }
    }

    fn regular(&self, path: &LayerPath, mode: u32, mut body: &mut dyn Read) -> io::Result<TreeEntry> {
        let kind = if self.texts.contains(path) { FileKind::Text } else { FileKind::of(path) };
        Ok(match kind {
            FileKind::Text => TreeEntry::Text(file_filter::text(&mut body)?),
            FileKind::Metadata => TreeEntry::Text(file_filter::metadata(&mut body)?),
            FileKind::DpkgStatus => TreeEntry::Text(file_filter::dpkg_versions(&mut body)?),
            FileKind::Glibc => match file_filter::glibc_version(path, &mut body)? {
                Some((major, minor)) => TreeEntry::Glibc(major, minor),
                None => TreeEntry::File,
            },
            FileKind::Python if mode & 0o111 != 0 => TreeEntry::Executable,
            FileKind::NameOnly => TreeEntry::Present,
            FileKind::Python | FileKind::Other => TreeEntry::File,
        })
    }
}

impl EntryFilter for FactsFilter {
    type Kept = TreeEntry;
    type Error = TooManyFiles;

    fn keep(
        &mut self,
        path: &LayerPath,
        entry: TarEntry,
        target: Option<HardlinkTarget<TreeEntry>>,
        body: &mut dyn Read,
    ) -> Result<Option<TreeEntry>, MergeError<TooManyFiles>> {
        if path.is_root() {
            return Ok(None);
        }
        let is_executable = entry.mode & 0o111 != 0;
        let kept = match entry.kind {
            EntryKind::Directory => TreeEntry::Directory(entry.metadata()),
            EntryKind::Symlink => TreeEntry::Symlink(entry.link),
            EntryKind::Hardlink => match target.and_then(|target| target.kept) {
                Some(kept) if kept != TreeEntry::File => kept,
                _ if FileKind::of(path) == FileKind::Python && is_executable => TreeEntry::Executable,
                _ => TreeEntry::File,
            },
            EntryKind::Regular => self.regular(path, entry.mode, body)?,
            EntryKind::Fifo | EntryKind::CharDevice | EntryKind::BlockDevice => TreeEntry::File,
        };
        self.count(path, &kept).map_err(MergeError::Filter)?;
        Ok(Some(kept))
    }

    fn keep_implied(&mut self, _path: &LayerPath) -> Option<TreeEntry> {
        Some(TreeEntry::Directory(Metadata::root(0o755, 0)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::EntryType;

    use ociforge_layers::merge::LayerMerger;

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
        let env: Vec<String> = env.iter().map(|entry| (*entry).to_owned()).collect();
        let layers: Vec<Vec<u8>> = layers.iter().map(|entries| layer(entries)).collect();
        read(&env, &layers).unwrap()
    }

    fn read<L: AsRef<[u8]>>(env: &[String], layers: &[L]) -> Result<BaseFacts, MergeError<TooManyFiles>> {
        let mut merger = LayerMerger::new(FactsFilter::new(env));
        for layer in layers {
            merger.layer(layer.as_ref())?;
        }
        let (filter, merged) = merger.finish();
        Ok(filter.facts(merged).0)
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
            assert_eq!(read(&[], &[bytes]).unwrap().python.unwrap().version, "3.10");
        }
        for bytes in [&members[..members.len() - 10], &zstd[..zstd.len() - 10], &tar[..1100], b"\x1f\x8bnot gzip"] {
            assert!(read(&[], &[bytes]).is_err());
        }
        assert!(read(&[], &[b""]).is_ok());
    }

    #[test]
    fn hostile_names_and_floods_are_errors() {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..7].copy_from_slice(b"../evil");
        header.set_size(0);
        header.set_cksum();
        assert!(matches!(read(&[], &[header.as_bytes()]), Err(MergeError::Name(_))));

        let deep = "d/".repeat(5000);
        assert!(matches!(read(&[], &[layer(&[(&deep, "")])]), Err(MergeError::LongPath)));

        let text = "x".repeat(1 << 20);
        let names: Vec<String> = (0..50).map(|n| format!("{n}/pyvenv.cfg")).collect();
        let flood: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        assert!(matches!(read(&[], &[layer(&flood)]), Err(MergeError::Filter(TooManyFiles))));
    }
}
