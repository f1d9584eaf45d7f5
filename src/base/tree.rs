//! The result of a scan: every path of an image's tree, and the content of a few files.

use std::convert::Infallible;

use ociforge_layers::index::IndexEntry;
use ociforge_layers::path_map::PathMap;
use ociforge_layers::{LayerPath, Metadata, links};

/// The kept data of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TreeEntry {
    Directory(Metadata),
    Symlink(Vec<u8>),
    /// Any other file.
    File,
    /// An executable file.
    Executable,
    /// A file whose name is sufficient.
    Present,
    /// The content of a small file, or a part of it.
    Text(String),
    /// The version text of the C library.
    Glibc(u32, u32),
}

impl TreeEntry {
    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }
}

/// Kept entries by path, and their size in memory.
#[derive(Debug, Default)]
pub(super) struct Tree {
    entries: PathMap<TreeEntry>,
    size: usize,
    texts: usize,
}

impl Tree {
    /// The estimated memory in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The total size of the kept texts in bytes.
    pub(super) fn texts(&self) -> usize {
        self.texts
    }

    pub(super) fn get(&self, path: &LayerPath) -> Option<&TreeEntry> {
        self.entries.get(path)
    }

    /// All entries, in the order of their paths.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&LayerPath, &TreeEntry)> {
        self.entries.iter()
    }

    /// The target of the symbolic link at `path`.
    pub(super) fn link_at(&self, path: &LayerPath) -> Option<&[u8]> {
        match self.get(path)? {
            TreeEntry::Symlink(target) => Some(target),
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, path: LayerPath, kept: TreeEntry) {
        self.size += weight(&path, &kept);
        self.texts += text(&kept);
        if let Some(old) = self.entries.insert(path.clone(), kept) {
            self.subtract([(path, old)]);
        }
    }

    fn subtract(&mut self, removed: impl IntoIterator<Item = (LayerPath, TreeEntry)>) {
        for (path, old) in removed {
            self.size -= weight(&path, &old);
            self.texts -= text(&old);
        }
    }

    /// Adds all entries of a higher layer.
    pub(super) fn append(&mut self, upper: Self) {
        for (path, kept) in upper.entries.into_entries() {
            self.insert(path, kept);
        }
    }

    /// Removes `path` and everything inside it.
    pub(super) fn remove(&mut self, path: &LayerPath) {
        let removed = self.entries.take(path);
        self.subtract(removed);
    }

    /// Removes everything inside `directory`.
    pub(super) fn remove_inside(&mut self, directory: &LayerPath) {
        let removed = self.entries.take_inside(directory);
        self.subtract(removed);
    }

    /// Every path with its entry.
    pub(super) fn into_index(self) -> impl Iterator<Item = (LayerPath, IndexEntry)> {
        self.entries.into_entries().map(|(path, kept)| {
            let entry = match kept {
                TreeEntry::Directory(metadata) => IndexEntry::Directory { metadata, opaque: false },
                TreeEntry::Symlink(target) => IndexEntry::Symlink(target),
                _ => IndexEntry::File,
            };
            (path, entry)
        })
    }

    /// `path` after all of its symbolic links that are known; `None` for a loop.
    pub(super) fn resolve(&self, path: &LayerPath) -> Option<LayerPath> {
        let link_at = |path: &LayerPath| Ok::<_, Infallible>(self.link_at(path).map(<[u8]>::to_vec));
        links::follow(path, link_at).unwrap_or_default()
    }

    /// The text of the file at `path`, through links.
    pub(super) fn text(&self, path: &LayerPath) -> Option<&str> {
        match self.get(&self.resolve(path)?)? {
            TreeEntry::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The estimated memory of an entry in bytes.
fn weight(path: &LayerPath, kept: &TreeEntry) -> usize {
    let content = match kept {
        TreeEntry::Symlink(target) => target.len(),
        TreeEntry::Directory(metadata) => metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum(),
        kept => text(kept),
    };
    path.as_bytes().len() + content + 128
}

fn text(kept: &TreeEntry) -> usize {
    if let TreeEntry::Text(text) = kept { text.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        name.parse().unwrap()
    }

    fn tree(links: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (link, target) in links {
            tree.insert(path(link), TreeEntry::Symlink(target.as_bytes().to_vec()));
        }
        tree
    }

    #[test]
    fn links_are_followed_inside_the_tree() {
        let tree = tree(&[
            ("bin", "usr/bin"),
            ("usr/bin/python3", "python3.11"),
            ("usr/local/bin/python", "../../../../bin/./python3"),
            ("etc/alternatives/python", "/bin/python3"),
            ("usr/bin/python", "/etc/alternatives/python"),
            ("a", "b"),
            ("b", "/a"),
        ]);
        for name in ["bin/python3", "usr/local/bin/python", "usr/bin/python"] {
            assert_eq!(tree.resolve(&path(name)).unwrap(), path("usr/bin/python3.11"), "{name}");
        }
        assert_eq!(tree.resolve(&path("a/x")), None);
    }

    #[test]
    fn removing_takes_what_is_inside_and_nothing_beside() {
        let mut tree = tree(&[("a", "x"), ("a/b", "x"), ("a/b/c", "x"), ("a-b", "x"), ("ab", "x")]);
        let before = tree.size();
        tree.insert(path("a/b"), TreeEntry::Present);
        tree.remove_inside(&path("a"));
        assert_eq!(tree.iter().map(|(path, _)| path.to_string()).collect::<Vec<_>>(), ["/a", "/a-b", "/ab"]);
        tree.remove(&path("a"));
        assert_eq!(tree.iter().count(), 2);
        tree.remove_inside(&LayerPath::root());
        assert_eq!((tree.size(), tree.iter().count()), (0, 0));
        assert!(before > 0);
    }
}
