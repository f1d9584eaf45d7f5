//! The files of a source: an archive, which is not trusted, or a directory of the recipe's directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ociforge_layers::materialize::materialize;
use ociforge_layers::source::directory::{CopyDestination, DirectoryOptions, Exclusion, directory};
use ociforge_layers::source::ignore::Patterns;
use ociforge_layers::source::{tar, zip};
use ociforge_layers::{Content, LayerPath, LayerTree, NodeKind};
use ociforge_manifests::Digest;
use ociforge_manifests::document::canonical;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::error::SourceError;
use crate::plan::Plan;
use crate::python::LockedWheel;

/// The files that identify the directory of a source.
const MARKS: [&str; 3] = ["pyproject.toml", "setup.py", "PKG-INFO"];
/// The maximum size of a text file, which is read into memory.
const MAX_TEXT: u64 = 16 << 20;

/// The files of a source.
pub(super) struct SourceTree {
    /// The name, for messages.
    pub(super) what: String,
    tree: LayerTree,
    /// The directory of the source in `tree`.
    root: LayerPath,
    /// The digest of all files that a build sees.
    pub(super) digest: Digest,
}

impl SourceTree {
    /// Reads the archive at `path`, whose hash is verified. `mtime` is the time of files that have none.
    pub(super) fn of_sdist(
        path: &Path,
        archive: &LockedWheel,
        scratch: &Path,
        mtime: i64,
    ) -> Result<Self, SourceError> {
        let tree = if archive.file.ends_with(".zip") {
            zip::read_zip(path, mtime)?
        } else {
            tar::read_tar(path, &tar::TarOptions { scratch, latest: None })?
        };
        let root = top(&tree)?;
        for (path, node) in tree.iter().filter(|(path, _)| path.starts_with(&root)) {
            let refuse = |why| Err(SourceError::Member { path: path.to_string(), why });
            match &node.kind {
                NodeKind::Symlink(target) if leads_out(path, target, &root) => {
                    return refuse("is a link that leads out of it");
                }
                NodeKind::Hardlink(target) if !target.starts_with(&root) => {
                    return refuse("is a link that leads out of it");
                }
                NodeKind::Directory { opaque: true } | NodeKind::Whiteout => {
                    return refuse("has the name of a whiteout, which layers cannot contain");
                }
                NodeKind::Fifo | NodeKind::CharDevice { .. } | NodeKind::BlockDevice { .. } => {
                    return refuse("is neither a file nor a directory nor a link");
                }
                _ => {}
            }
        }
        let what = super::shown(&archive.name, Some(&archive.version));
        Ok(Self { what, tree, root, digest: archive.sha256.clone() })
    }

    /// Reads a project, without the files that `.dockerignore` excludes, and without the lock, whose changes must not
    /// cause a new build.
    pub(super) fn of_project(plan: &Plan, project: &Path, mtime: i64) -> Result<Self, SourceError> {
        let source = LayerPath::new(project.as_os_str().as_encoded_bytes())?;
        let ignored = Patterns::of_directory(&plan.directory)?;
        let exclude = vec![
            Exclusion { patterns: ignored, source },
            Exclusion { patterns: Patterns::new(["ociforge.lock"])?, source: LayerPath::root() },
        ];
        let root = LayerPath::new("source")?;
        let to = CopyDestination { path: root.clone(), into: false };
        let tree =
            directory(&plan.locate(project), &to, &DirectoryOptions { exclude, mtime, ..DirectoryOptions::default() })?;
        let digest = digest(&tree)?;
        Ok(Self { what: super::shown_project(project), tree, root, digest })
    }

    /// The content of a text file in the top directory, if it exists.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        match &self.tree.get(&self.root.join(name).ok()?)?.kind {
            NodeKind::File(content) => String::from_utf8(content.read(MAX_TEXT).ok()??).ok(),
            _ => None,
        }
    }

    /// Writes the files to `directory`.
    pub(super) fn write(&self, directory: &Path) -> Result<(), SourceError> {
        Ok(materialize(&self.tree, &self.root, directory)?)
    }
}

/// Finds the directory of the source. Other directories, such as those that some archivers add, are ignored.
fn top(tree: &LayerTree) -> Result<LayerPath, SourceError> {
    let tops: BTreeSet<LayerPath> = tree.iter().filter_map(|(path, _)| path.steps().next()).collect();
    let is_source =
        |top: &LayerPath| MARKS.iter().any(|mark| top.join(mark).is_ok_and(|mark| tree.get(&mark).is_some()));
    let mut sources = tops.into_iter().filter(is_source);
    match (sources.next(), sources.next()) {
        (Some(top), None) => Ok(top),
        _ => Err(SourceError::NoTop),
    }
}

/// Whether the target of a symbolic link at `path` is outside of `root`, without following other links.
fn leads_out(path: &LayerPath, target: &[u8], root: &LayerPath) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut at = path.parent();
    for component in target.split(|byte| *byte == b'/') {
        at = match component {
            b"" | b"." => at,
            b".." => at.and_then(|at| at.parent()),
            name => at.and_then(|at| at.join(name).ok()),
        };
        if !at.as_ref().is_some_and(|at| at.starts_with(root)) {
            return true;
        }
    }
    false
}

/// The digest of the names, modes and content of all files.
fn digest(tree: &LayerTree) -> Result<Digest, SourceError> {
    let mut all = Sha256::new();
    for (path, node) in tree.iter() {
        let content = match &node.kind {
            NodeKind::File(Content::Path { path: file, .. }) => {
                let hashed = crate::python::digest_of_file(file);
                let (digest, _) = hashed.map_err(|source| SourceError::File { path: file.clone(), source })?;
                json!(digest)
            }
            NodeKind::Symlink(target) => json!(target),
            _ => Value::Null,
        };
        let kind: BTreeMap<&str, Value> = [("content", content), ("mode", json!(node.metadata.mode))].into();
        all.update(canonical(&json!([path.as_bytes(), kind])));
    }
    Ok(Digest::from_sha256(&all.finalize().into()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::python::Location;
    use ociforge_layers::{Metadata, TreeNode};
    use std::io::Write;

    pub(crate) fn archive(file: &str, bytes: &[u8]) -> LockedWheel {
        let stem = file.trim_end_matches(".tar.gz").trim_end_matches(".zip");
        let (name, version) = stem.rsplit_once('-').unwrap();
        LockedWheel {
            name: ociforge_layers::source::wheel::normalize(name),
            version: version.into(),
            file: file.into(),
            location: Location::Path(file.into()),
            size: None,
            sha256: Digest::of(bytes),
            requested: true,
        }
    }

    /// A `tar.gz` of text files.
    pub(crate) fn targz(members: &[(&str, &str)]) -> Vec<u8> {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = ::tar::Builder::new(gzip);
        for (name, text) in members {
            let mut header = ::tar::Header::new_gnu();
            if let Some(target) = text.strip_prefix("-> ") {
                header.set_entry_type(::tar::EntryType::Symlink);
                header.set_size(0);
                header.set_mode(0o777);
                tar.append_link(&mut header, name, target).unwrap();
                continue;
            }
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(1_500_000_000);
            // Written raw: the builder refuses names that a hostile archive has.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn read(members: &[(&str, &str)]) -> Result<SourceTree, SourceError> {
        let place = tempfile::tempdir().unwrap();
        let bytes = targz(members);
        let path = place.path().join("x");
        std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
        SourceTree::of_sdist(&path, &archive("a-1.tar.gz", &bytes), place.path(), 0)
    }

    #[test]
    fn an_archive_has_one_source() {
        let good = [("a-1/setup.py", "1"), ("._a-1", "finder"), ("a-1/b/link", "-> ../setup.py")];
        let tree = read(&good).unwrap();
        assert_eq!(tree.text("setup.py").unwrap(), "1");
        assert!(tree.text("link").is_none() && tree.text("missing").is_none());
        let place = tempfile::tempdir().unwrap();
        tree.write(&place.path().join("source")).unwrap();
        assert_eq!(std::fs::read_to_string(place.path().join("source/b/link")).unwrap(), "1");
        for bad in [&[("setup.py", "")][..], &[("a/setup.py", ""), ("b/setup.py", "")], &[("a/x", "")], &[]] {
            assert!(matches!(read(bad), Err(SourceError::NoTop)), "{bad:?}");
        }
    }

    #[test]
    fn hostile_archives_are_refused() {
        for bad in [
            ("../x", ""),
            ("a-1/../../x", ""),
            ("a-1/.wh.setup.cfg", ""),
            ("a-1/b/.wh..wh..opq", ""),
            ("a-1/link", "-> /etc/passwd"),
            ("a-1/link", "-> ../other"),
            ("a-1/b/link", "-> ../../a-1/../x"),
        ] {
            let refused = read(&[("a-1/setup.py", ""), bad]);
            let refused = refused.err().unwrap_or_else(|| panic!("{bad:?}"));
            assert!(matches!(refused, SourceError::Tar(_) | SourceError::Member { .. }), "{bad:?}: {refused}");
        }
        assert!(read(&[("a-1/setup.py", ""), ("a-1/l", "-> ."), ("a-1/l/x", "")]).is_err());
        // Files beside the source directory are not checked, because they are not used.
        assert!(read(&[("a-1/setup.py", ""), ("b", "-> /etc")]).is_ok());
    }

    #[test]
    fn the_digest_tells_files_apart() {
        let place = tempfile::tempdir().unwrap();
        let of = |mode: u32, content: &str, name: &str| {
            let path = place.path().join(content);
            std::fs::write(&path, content).unwrap();
            let kind = NodeKind::File(Content::Path { path, len: content.len() as u64 });
            let mut tree = LayerTree::new();
            tree.insert(name.parse().unwrap(), TreeNode { metadata: Metadata::root(mode, 1), kind }).unwrap();
            digest(&tree).unwrap()
        };
        let first = of(0o644, "x", "a");
        assert_eq!(first, of(0o644, "x", "a"));
        assert!([of(0o755, "x", "a"), of(0o644, "y", "a"), of(0o644, "x", "b")].iter().all(|other| *other != first));
    }
}
