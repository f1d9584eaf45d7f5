//! Writing a tree to files on disk, for a build that needs them.
//!
//! Images are unpacked by another module: this one ignores owners and extended attributes, and refuses entries other
//! than files, directories and links.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::inflate::Inflater;
use crate::path::LayerPath;
use crate::sha256::Sha256Stream;
use crate::tree::{Content, LayerTree, NodeKind};

/// A file cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct MaterializeError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

/// Writes all entries of `tree` below `within` to `directory`, which must be empty or missing. Files have their
/// permission bits, plus those that their owner needs, and their modification time.
///
/// # Errors
/// When a file cannot be created, or content cannot be read. Created files stay.
pub fn materialize(tree: &LayerTree, within: &LayerPath, directory: &Path) -> Result<(), MaterializeError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| MaterializeError { path, source }
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let mut inflater = Inflater::new();
    let place = |path: &LayerPath| -> Option<PathBuf> {
        let below = path.as_path().strip_prefix(within.as_path()).ok()?;
        (!below.as_os_str().is_empty()).then(|| directory.join(below))
    };
    // Links to files are last, because their targets must exist.
    for links in [false, true] {
        for (path, node) in tree.iter().filter(|(_, node)| matches!(node.kind, NodeKind::Hardlink(_)) == links) {
            let Some(place) = place(path) else { continue };
            let above = place.parent().map_or(Ok(()), fs::create_dir_all);
            let made = above.and_then(|()| match &node.kind {
                NodeKind::Directory { opaque: false } => fs::create_dir_all(&place),
                NodeKind::Symlink(target) => std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &place),
                NodeKind::File(content) => {
                    file(&place, content, node.metadata.mode, node.metadata.mtime, &mut inflater)
                }
                NodeKind::Hardlink(target) => match target.as_path().strip_prefix(within.as_path()) {
                    Ok(target) => fs::hard_link(directory.join(target), &place),
                    Err(_) => Err(io::Error::other("it is a hard link to a file elsewhere")),
                },
                _ => Err(io::Error::other("it is neither a file nor a directory nor a link")),
            });
            made.map_err(failed(&place))?;
        }
    }
    Ok(())
}

fn file(path: &Path, content: &Content, mode: u32, mtime: i64, inflater: &mut Inflater) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    write(content, &mut file, inflater)?;
    file.set_permissions(Permissions::from_mode(mode & 0o777 | 0o600))?;
    let seconds = Duration::from_secs(u64::try_from(mtime).unwrap_or(0));
    file.set_modified(SystemTime::UNIX_EPOCH + seconds)
}

/// Writes the content to `out`.
fn write(content: &Content, out: &mut impl Write, inflater: &mut Inflater) -> io::Result<()> {
    let mut hash = content.sha256().map(|_| Sha256Stream::default());
    let mut put = |piece: &[u8]| {
        if let Some(hash) = &mut hash {
            hash.update(piece);
        }
        out.write_all(piece)
    };
    match content {
        Content::Bytes(bytes) => put(bytes)?,
        Content::Slice { file, range, .. } => {
            put(file.get(range.clone()).ok_or_else(|| io::Error::other("it is outside of its file"))?)?;
        }
        Content::Deflated(slice) => inflater.inflate(slice, put)?,
        Content::Path { path, len } => {
            if io::copy(&mut File::open(path)?.take(len + 1), out)? != *len {
                return Err(io::Error::other("it changed while it was read"));
            }
        }
    }
    if hash.map(Sha256Stream::finish) == content.sha256() { Ok(()) } else { Err(other_hash()) }
}

/// The error of content that is not what its package says.
pub(crate) fn other_hash() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its SHA-256 differs from the one in RECORD")
}

impl Content {
    /// All of the content, in memory; `None` when it is longer than `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read, or is damaged.
    pub fn read(&self, limit: u64) -> io::Result<Option<Vec<u8>>> {
        if self.len() > limit {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        write(self, &mut bytes, &mut Inflater::new())?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inflate::tests::deflated;
    use crate::tree::{Metadata, TreeNode};
    use std::os::unix::fs::MetadataExt;

    fn tree(nodes: Vec<(&str, u32, NodeKind)>) -> LayerTree {
        let mut tree = LayerTree::new();
        for (path, mode, kind) in nodes {
            tree.insert(path.parse().unwrap(), TreeNode { metadata: Metadata::root(mode, 1_500_000_000), kind })
                .unwrap();
        }
        tree
    }

    #[test]
    fn files_are_as_the_tree_has_them() {
        let place = tempfile::tempdir().unwrap();
        let slice = deflated(b"inflated");
        let mapped = Content::Slice { file: slice.file.clone(), range: 0..1, sha256: None };
        let source = place.path().join("source");
        fs::write(&source, "copied").unwrap();
        let tree = tree(vec![
            ("in/a/text", 0o444, NodeKind::File(Content::Bytes(b"text".to_vec()))),
            ("in/a/deflated", 0o755, NodeKind::File(Content::Deflated(slice))),
            ("in/b", 0o700, NodeKind::Directory { opaque: false }),
            ("in/b/mapped", 0o644, NodeKind::File(mapped)),
            ("in/b/copied", 0o644, NodeKind::File(Content::Path { path: source, len: 6 })),
            ("in/aa", 0o644, NodeKind::Hardlink("in/z".parse().unwrap())),
            ("in/z", 0o644, NodeKind::File(Content::Bytes(vec![]))),
            ("in/link", 0o777, NodeKind::Symlink(b"a/text".to_vec())),
            ("out", 0o644, NodeKind::File(Content::Bytes(vec![]))),
        ]);
        let made = place.path().join("made");
        materialize(&tree, &"in".parse().unwrap(), &made).unwrap();
        for (name, content) in [("link", "text"), ("a/deflated", "inflated"), ("b/copied", "copied"), ("aa", "")] {
            assert_eq!(fs::read_to_string(made.join(name)).unwrap(), content, "{name}");
        }
        let text = fs::metadata(made.join("a/text")).unwrap();
        assert_eq!((text.mode() & 0o7777, text.mtime()), (0o644, 1_500_000_000));
        assert_eq!(fs::metadata(made.join("a/deflated")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(made.join("b/mapped")).unwrap().len(), 1);
        assert!(!made.join("out").exists());
    }

    #[test]
    fn what_no_build_needs_is_refused() {
        for kind in [NodeKind::Fifo, NodeKind::Whiteout, NodeKind::CharDevice { major: 1, minor: 3 }] {
            let place = tempfile::tempdir().unwrap();
            let error = materialize(&tree(vec![("x", 0o644, kind)]), &LayerPath::root(), place.path()).unwrap_err();
            assert!(error.to_string().ends_with("/x"), "{error}");
        }
    }

    #[test]
    fn content_in_memory() {
        let slice = deflated(b"inflated");
        assert_eq!(Content::Deflated(slice.clone()).read(8).unwrap().unwrap(), b"inflated");
        assert_eq!(Content::Deflated(slice).read(7).unwrap(), None);
        assert!(Content::Path { path: "/nonexistent".into(), len: 1 }.read(9).is_err());
    }
}
