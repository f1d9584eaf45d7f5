//! The merged layers of a base: every path of an image's tree, and the content of a few files.

use ociforge_layers::index::IndexEntry;
use ociforge_layers::merge::MergedEntry;
use ociforge_layers::path_map::PathMap;
use ociforge_layers::{LayerPath, Metadata};

/// The kept data of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TreeEntry {
    Directory(Metadata),
    Symlink(Vec<u8>),
    /// Any other file.
    File,
    /// An executable file.
    Executable,
    /// A file of which only the name matters.
    Present,
    /// The content of a small file, or a part of it.
    Text(String),
    /// The version text of the C library.
    Glibc(u32, u32),
}

impl TreeEntry {
    /// The estimated memory in bytes.
    pub(super) fn size(&self, path: &LayerPath) -> usize {
        let content = match self {
            Self::Symlink(target) => target.len(),
            Self::Directory(metadata) => metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum(),
            kept => kept.text().map_or(0, str::len),
        };
        path.as_bytes().len() + content + 128
    }

    /// The kept text.
    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

impl MergedEntry for TreeEntry {
    fn is_directory(&self) -> bool {
        matches!(self, Self::Directory(_))
    }

    fn link_target(&self) -> Option<&[u8]> {
        if let Self::Symlink(target) = self { Some(target) } else { None }
    }
}

/// Kept entries by path.
#[derive(Debug, Default)]
pub(super) struct Tree(PathMap<TreeEntry>);

impl From<PathMap<TreeEntry>> for Tree {
    fn from(entries: PathMap<TreeEntry>) -> Self {
        Self(entries)
    }
}

impl Tree {
    pub(super) fn get(&self, path: &LayerPath) -> Option<&TreeEntry> {
        self.0.get(path)
    }

    /// All entries, in the order of their paths.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&LayerPath, &TreeEntry)> {
        self.0.iter()
    }

    /// Every path with its entry.
    pub(super) fn into_index(self) -> impl Iterator<Item = (LayerPath, IndexEntry)> {
        self.0.into_entries().map(|(path, kept)| {
            let entry = match kept {
                TreeEntry::Directory(metadata) => IndexEntry::Directory { metadata, opaque: false },
                TreeEntry::Symlink(target) => IndexEntry::Symlink(target),
                _ => IndexEntry::File,
            };
            (path, entry)
        })
    }

    /// `path` with its known symbolic links resolved; `None` for a loop.
    pub(super) fn resolve(&self, path: &LayerPath) -> Option<LayerPath> {
        self.0.follow(path)
    }

    /// The text of the file at `path`, through links.
    pub(super) fn text(&self, path: &LayerPath) -> Option<&str> {
        self.get(&self.resolve(path)?)?.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> LayerPath {
        name.parse().unwrap()
    }

    fn tree(links: &[(&str, &str)]) -> Tree {
        let mut entries = PathMap::default();
        for (link, target) in links {
            entries.insert(path(link), TreeEntry::Symlink(target.as_bytes().to_vec()));
        }
        Tree::from(entries)
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
}
