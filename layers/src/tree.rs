//! The file tree of a layer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use crate::hardlinks::Links;
use crate::mapped::MappedFile;
use crate::path::LayerPath;

/// The changes of a layer: a map from path to node, ordered by path.
///
/// A source's tree may lack the parents of its entries: [`place`](crate::place::place) adds them.
#[derive(Debug, Clone, Default)]
pub struct LayerTree {
    nodes: BTreeMap<LayerPath, TreeNode>,
}

/// One entry of a layer.
#[derive(Debug, Clone)]
pub struct TreeNode {
    /// Mode, owner, time and extended attributes.
    pub metadata: Metadata,
    /// Its kind.
    pub kind: NodeKind,
}

/// The metadata of a file in a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Permission bits with setuid, setgid and sticky: at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Modification time, whole seconds since 1970.
    pub mtime: i64,
    /// Extended attributes, sorted by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Root's, without extended attributes.
    #[must_use]
    pub fn root(mode: u32, mtime: i64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() }
    }
}

/// The kinds of entries.
#[derive(Debug, Clone)]
pub enum NodeKind {
    /// A directory; an opaque one hides its content in lower layers.
    Directory {
        /// Whether it is opaque.
        opaque: bool,
    },
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// Another name of a file in the same layer.
    Hardlink(LayerPath),
    /// The entry of lower layers with this name is removed.
    Whiteout,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// The source of a file's bytes.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Bytes(Vec<u8>),
    /// In a file; it must still have this length when it is packed.
    Path {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// A range of a mapped file.
    Slice {
        /// The mapped file.
        file: MappedFile,
        /// The range.
        range: Range<usize>,
        /// The SHA-256 that the content must have, if it is known.
        sha256: Option<[u8; 32]>,
    },
    /// A range of a mapped file that is already deflated.
    Deflated(DeflatedSlice),
}

/// A raw deflate stream (RFC 1951) in a mapped file, with the size and CRC-32 of its content. A gzip layer includes it
/// unchanged.
#[derive(Debug, Clone)]
pub struct DeflatedSlice {
    /// The mapped file.
    pub file: MappedFile,
    /// The range of the stream.
    pub range: Range<usize>,
    /// CRC-32 of the inflated bytes.
    pub crc32: u32,
    /// Length of the inflated bytes.
    pub len: u64,
    /// The SHA-256 that the inflated bytes must have, if it is known.
    pub sha256: Option<[u8; 32]>,
}

impl Content {
    /// The SHA-256 that the content must have, if it is known.
    pub(crate) fn sha256(&self) -> Option<[u8; 32]> {
        match self {
            Self::Slice { sha256, .. } | Self::Deflated(DeflatedSlice { sha256, .. }) => *sha256,
            Self::Bytes(_) | Self::Path { .. } => None,
        }
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Path { len, .. } => *len,
            Self::Slice { range, .. } => range.len() as u64,
            Self::Deflated(slice) => slice.len,
        }
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An entry that conflicts with the tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Something other than a directory is at or above a path that needs one.
    #[error("the layer cannot have {path}: {above} is not a directory")]
    NotADirectory {
        /// The entry.
        path: LayerPath,
        /// The conflicting entry.
        above: LayerPath,
    },
    /// A file in the place of a non-empty directory of the layer.
    #[error("{0} is both a directory with files and another entry in the same layer")]
    IsADirectory(LayerPath),
    /// A hard link without a target file in the layer.
    #[error("{path} is a hard link to {target}, which is not a file of the layer")]
    Dangling {
        /// The link.
        path: LayerPath,
        /// Its target.
        target: LayerPath,
    },
}

impl LayerTree {
    /// An empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry; replaces one with the same path.
    ///
    /// # Errors
    /// When a parent entry is not a directory, or a non-empty directory would be replaced.
    pub fn insert(&mut self, path: LayerPath, node: TreeNode) -> Result<(), TreeError> {
        for above in path.ancestors() {
            match self.nodes.get(&above).map(|node| &node.kind) {
                None => {}
                Some(NodeKind::Directory { .. }) => break,
                Some(_) => return Err(TreeError::NotADirectory { path, above }),
            }
        }
        if !matches!(node.kind, NodeKind::Directory { .. }) && self.has_children(&path) {
            return Err(TreeError::IsADirectory(path));
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Removes an entry, if it exists. Entries below it stay.
    pub fn remove(&mut self, path: &LayerPath) {
        self.nodes.remove(path);
    }

    /// Applies `other` to this tree. Hard links to a replaced file keep the old content.
    ///
    /// # Errors
    /// As [`LayerTree::insert`].
    pub fn extend(&mut self, other: Self) -> Result<(), TreeError> {
        let mut links = Links::of(self);
        for (path, node) in other.nodes {
            links.before_replacing(&path, self)?;
            self.insert(path, node)?;
        }
        Ok(())
    }

    /// The entry at `path`.
    #[must_use]
    pub fn get(&self, path: &LayerPath) -> Option<&TreeNode> {
        self.nodes.get(path)
    }

    /// All entries, in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = (&LayerPath, &TreeNode)> {
        self.nodes.iter()
    }

    /// All entries, in the order of their paths.
    pub fn into_entries(self) -> impl Iterator<Item = (LayerPath, TreeNode)> {
        self.nodes.into_iter()
    }

    /// The number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the tree is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The total length of the files in bytes.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        let files = self.nodes.values().filter_map(|node| match &node.kind {
            NodeKind::File(content) => Some(content.len()),
            _ => None,
        });
        files.sum()
    }

    fn has_children(&self, path: &LayerPath) -> bool {
        let after = (std::ops::Bound::Excluded(path), std::ops::Bound::Unbounded);
        // The content of `path` may not follow it directly: `a.b` sorts between `a` and `a/c`.
        let candidates = self.nodes.range::<LayerPath, _>(after);
        let mut same_prefix = candidates.take_while(|(p, _)| p.as_bytes().starts_with(path.as_bytes()));
        same_prefix.any(|(p, _)| p.starts_with(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        name.parse().unwrap()
    }

    fn file() -> TreeNode {
        TreeNode { metadata: Metadata::root(0o644, 0), kind: NodeKind::File(Content::Bytes(vec![1])) }
    }

    fn directory() -> TreeNode {
        TreeNode { metadata: Metadata::root(0o755, 0), kind: NodeKind::Directory { opaque: false } }
    }

    #[test]
    fn a_file_is_no_directory() {
        let mut tree = LayerTree::new();
        tree.insert(path("a"), file()).unwrap();
        assert!(matches!(tree.insert(path("a/b/c"), file()), Err(TreeError::NotADirectory { .. })));
        tree.insert(path("d"), directory()).unwrap();
        tree.insert(path("d.x"), file()).unwrap();
        tree.insert(path("d/e"), file()).unwrap();
        assert_eq!(tree.insert(path("d"), file()), Err(TreeError::IsADirectory(path("d"))));
        tree.insert(path("d.x"), directory()).unwrap();
        assert_eq!((tree.len(), tree.content_len()), (4, 2));
    }

    #[test]
    fn what_is_put_on_top_leaves_hard_links_alone() {
        let link = TreeNode { metadata: Metadata::root(0o644, 0), kind: NodeKind::Hardlink(path("a")) };
        let mut tree = LayerTree::new();
        tree.insert(path("a"), file()).unwrap();
        tree.insert(path("b"), link.clone()).unwrap();
        tree.insert(path("c"), link).unwrap();
        let mut upper = LayerTree::new();
        upper.insert(path("a"), TreeNode { kind: NodeKind::Symlink(b"x".to_vec()), ..file() }).unwrap();
        tree.extend(upper).unwrap();
        assert!(matches!(tree.get(&path("b")).unwrap().kind, NodeKind::File(_)));
        assert!(matches!(&tree.get(&path("c")).unwrap().kind, NodeKind::Hardlink(target) if *target == path("b")));
    }
}
