//! The layers below a new layer: the known files of the base, and the earlier layers of the build.

use std::collections::BTreeSet;

use crate::hierarchy::{self, Assumption};
use crate::index::{FileIndex, IndexEntry};
use crate::links;
use crate::path::LayerPath;
use crate::place::PlaceError;
use crate::tree::Metadata;

/// The known files of the base.
#[derive(Debug, Clone)]
pub enum BaseFiles {
    /// All of them.
    Known(FileIndex),
    /// Those of a lock.
    Locked(LockedFiles),
    /// None: the files of common distributions are assumed.
    Assumed,
}

/// The files of the base in a lock: the paths that the recipe's layers looked up when it was locked, and those that
/// they probably look up after a change of their content. All other lookups need the base's layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockedFiles {
    /// The files.
    pub files: FileIndex,
    /// Directories that are complete in `files`: other names do not exist in them.
    pub listed: BTreeSet<LayerPath>,
}

/// The layers below a new one.
#[derive(Debug, Clone)]
pub struct LowerLayers {
    base: BaseFiles,
    /// With their descriptions for messages; the topmost last.
    layers: Vec<(String, FileIndex)>,
}

/// The layers that have files at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSources {
    /// The path, after its symbolic links.
    pub path: LayerPath,
    /// Whether the base has files there.
    pub base: bool,
    /// The indices of the layers on top of the base that change something there, lowest first.
    pub layers: Vec<usize>,
}

/// The entry of the layers below at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lower {
    pub(crate) kind: LowerKind,
    pub(crate) origin: LowerOrigin,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LowerKind {
    Absent,
    Directory(Metadata),
    Symlink(Vec<u8>),
    File,
    /// Unknown without the base's layers.
    Unknown,
}

/// The layer of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LowerOrigin {
    /// The base has it, or no layer has it.
    Base,
    /// The base is assumed to have it.
    Assumed,
    /// The layer of this number.
    Layer(usize),
}

/// The purpose of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// The path leads to an entry, or is a directory.
    Directory,
    /// A file is placed there, and replaces a link.
    File,
    /// A file is placed there, or at the target of a link there.
    Through,
    /// As before, for a file whose source has another name.
    Renamed,
}

impl Purpose {
    pub(crate) const ALL: [Self; 4] = [Self::Directory, Self::File, Self::Through, Self::Renamed];

    /// The word for it in files.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Through => "through",
            Self::Renamed => "renamed",
        }
    }
}

impl LowerLayers {
    /// The base alone.
    #[must_use]
    pub fn new(base: BaseFiles) -> Self {
        Self { base, layers: Vec::new() }
    }

    /// Adds a layer on top; `description` names it in messages.
    pub fn push(&mut self, description: impl Into<String>, index: FileIndex) {
        self.layers.push((description.into(), index));
    }

    /// Replaces the known files of the base.
    pub fn set_base(&mut self, base: BaseFiles) {
        self.base = base;
    }

    /// Whether the base's files are only assumed.
    #[must_use]
    pub fn is_assumed(&self) -> bool {
        matches!(self.base, BaseFiles::Assumed)
    }

    /// The number of layers on top of the base.
    #[must_use]
    pub fn layer_count(&self) -> usize {
        self.layers.len()
    }

    /// Finds the layers that have files at `from` or inside it.
    ///
    /// # Errors
    /// [`PlaceError::Unknown`] when the base has to be read first; [`PlaceError::Loop`].
    pub fn sources(&self, from: &LayerPath) -> Result<PathSources, PlaceError> {
        let known = |path: &LayerPath, lower: Lower| match lower {
            // An assumption is not enough: files of the base would be missing in the copy.
            Lower { origin: LowerOrigin::Assumed, .. } | Lower { kind: LowerKind::Unknown, .. } => {
                Err(PlaceError::Unknown(path.clone()))
            }
            Lower { kind, .. } => Ok(kind),
        };
        let link_at = |path: &LayerPath| match known(path, self.at(path, Purpose::Directory))? {
            LowerKind::Symlink(target) => Ok::<_, PlaceError>(Some(target)),
            _ => Ok(None),
        };
        let path = links::follow(from, link_at)?.ok_or_else(|| PlaceError::Loop { path: from.clone() })?;
        let base = path.is_root() || known(&path, self.in_base(&path, Purpose::Directory))? != LowerKind::Absent;
        let touching = self.layers.iter().enumerate().filter(|(_, (_, index))| touches(index, &path));
        Ok(PathSources { base, layers: touching.map(|(n, _)| n).collect(), path })
    }

    /// The name of a layer, for messages.
    pub(crate) fn name(&self, origin: LowerOrigin) -> String {
        match origin {
            LowerOrigin::Layer(n) => {
                self.layers.get(n).map_or_else(String::new, |(name, _)| format!("the layer `{name}`"))
            }
            LowerOrigin::Base | LowerOrigin::Assumed => "the base".to_owned(),
        }
    }

    /// The entry at `path`. Symbolic links on the way are not followed.
    pub(crate) fn at(&self, path: &LayerPath, purpose: Purpose) -> Lower {
        for (n, (_, index)) in self.layers.iter().enumerate().rev() {
            let origin = LowerOrigin::Layer(n);
            let kind = match index.get(path) {
                Some(IndexEntry::Directory { metadata, .. }) => LowerKind::Directory(metadata),
                Some(IndexEntry::Symlink(target)) => LowerKind::Symlink(target),
                Some(IndexEntry::File) => LowerKind::File,
                Some(IndexEntry::Whiteout) => LowerKind::Absent,
                None if hides(index, path) => LowerKind::Absent,
                None => continue,
            };
            return Lower { kind, origin };
        }
        self.in_base(path, purpose)
    }

    fn in_base(&self, path: &LayerPath, purpose: Purpose) -> Lower {
        let (index, listed) = match &self.base {
            BaseFiles::Known(files) => (files, None),
            BaseFiles::Locked(LockedFiles { files, listed }) => (files, Some(listed)),
            BaseFiles::Assumed => return assumed(path, purpose),
        };
        let is_listed = || listed.is_none_or(|listed| path.parent().is_some_and(|parent| listed.contains(&parent)));
        let kind = match index.get(path) {
            Some(IndexEntry::Directory { metadata, .. }) => LowerKind::Directory(metadata),
            Some(IndexEntry::Symlink(target)) => LowerKind::Symlink(target),
            Some(IndexEntry::File) => LowerKind::File,
            Some(IndexEntry::Whiteout) => LowerKind::Absent,
            None if is_listed() => LowerKind::Absent,
            None => LowerKind::Unknown,
        };
        Lower { kind, origin: LowerOrigin::Base }
    }
}

/// Whether a layer without an entry at `path` hides that of lower layers.
fn hides(index: &FileIndex, path: &LayerPath) -> bool {
    path.ancestors().chain([LayerPath::root()]).any(|above| match index.get(&above) {
        None => false,
        Some(IndexEntry::Directory { opaque, .. }) => opaque,
        Some(_) => true,
    })
}

/// Whether a layer has entries at `path` or inside it, or hides those of lower layers.
fn touches(index: &FileIndex, path: &LayerPath) -> bool {
    hides(index, path) || index.iter().any(|(other, _)| other.starts_with(path))
}

fn assumed(path: &LayerPath, purpose: Purpose) -> Lower {
    let assumption = match purpose {
        Purpose::Directory => hierarchy::directory(path),
        Purpose::File => hierarchy::file(path),
        Purpose::Through => hierarchy::named_file(path),
        Purpose::Renamed => hierarchy::renamed_file(path),
    };
    let kind = match assumption {
        Assumption::Directory(metadata) => LowerKind::Directory(metadata),
        Assumption::Absent => LowerKind::Absent,
        Assumption::Unknown => LowerKind::Unknown,
    };
    Lower { kind, origin: LowerOrigin::Assumed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(lines: &[&str]) -> FileIndex {
        FileIndex::parse(lines.iter().copied()).unwrap()
    }

    #[test]
    fn upper_layers_hide_lower_ones() {
        let mut below = LowerLayers::new(BaseFiles::Known(index(&[
            "/a dir 0700 1:1 5",
            "/a/b file",
            "/a/c link x",
            "/d dir 0755 0:0 0",
            "/d/e file",
            "/f dir 0755 0:0 0",
            "/f/g file",
        ])));
        below.push("one", index(&["/a/b whiteout", "/d opaque 0755 0:0 0", "/f file", "/n dir 0711 0:0 0"]));
        let kind = |name: &str| below.at(&name.parse().unwrap(), Purpose::Directory).kind;
        assert!(matches!(kind("a"), LowerKind::Directory(Metadata { mode: 0o700, uid: 1, mtime: 5, .. })));
        assert_eq!(kind("a/b"), LowerKind::Absent);
        assert_eq!(kind("a/c"), LowerKind::Symlink(b"x".to_vec()));
        assert_eq!(kind("d/e"), LowerKind::Absent);
        assert_eq!([kind("f"), kind("f/g")], [LowerKind::File, LowerKind::Absent]);
        assert!(matches!(kind("n"), LowerKind::Directory(Metadata { mode: 0o711, .. })));
        assert_eq!(below.name(below.at(&"n".parse().unwrap(), Purpose::File).origin), "the layer `one`");
    }

    #[test]
    fn what_is_not_known_is_assumed_or_must_be_read() {
        let below = LowerLayers::new(BaseFiles::Assumed);
        let at = |name: &str, purpose| below.at(&name.parse().unwrap(), purpose);
        assert_eq!(at("tmp", Purpose::Directory).origin, LowerOrigin::Assumed);
        assert_eq!(at("bin", Purpose::Directory).kind, LowerKind::Unknown);
        assert_eq!(at("bin", Purpose::File).kind, LowerKind::Absent);
        let files = index(&["/bin link usr/bin", "/lib whiteout", "/opt dir 0755 0:0 0"]);
        let locked =
            LowerLayers::new(BaseFiles::Locked(LockedFiles { files, listed: ["opt".parse().unwrap()].into() }));
        let kind = |name: &str| locked.at(&name.parse().unwrap(), Purpose::Directory).kind;
        assert_eq!(
            [kind("bin"), kind("lib"), kind("opt/x"), kind("tmp"), kind("code")],
            [
                LowerKind::Symlink(b"usr/bin".to_vec()),
                LowerKind::Absent,
                LowerKind::Absent,
                LowerKind::Unknown,
                LowerKind::Unknown
            ]
        );
    }
}
