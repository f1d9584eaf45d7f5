//! Placement of a tree onto the layers below: no entry is below a path that is a symbolic link there, and every parent
//! directory of an entry has its own entry, with the attributes of the layers below.
//!
//! Runtimes unpack each layer separately and mount them with overlayfs (image-spec, layer.md). An entry `bin/x` then
//! creates a directory `bin`, which hides a link `bin -> usr/bin`; and an implied directory has no mode or owner of its
//! own.

mod error;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::below::{Lower, LowerKind, LowerLayers, LowerOrigin, Purpose};
use crate::links;
use crate::path::LayerPath;
use crate::tree::{LayerTree, Metadata, NodeKind, TreeNode};

pub use error::PlaceError;

/// The rules for placing a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementRules {
    /// The rule for files on symbolic links and directories.
    pub files: FileRule,
    /// The rule for the attributes of directories.
    pub directories: DirectoryRule,
    /// The time of new and unknown directories, in seconds since 1970.
    pub mtime: i64,
}

/// The rule for a file on an existing entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRule {
    /// It replaces a link, as files of archives and packages do.
    Replace,
    /// The only file of a tree follows a link. The files of a tree with several entries replace links.
    Follow,
    /// The only file of a tree follows a link, and goes into an existing directory under the name of its source.
    Into(Vec<u8>),
}

/// The rule for the attributes of directories that exist in the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryRule {
    /// All existing directories keep their attributes.
    KeepAll,
    /// Directories of the base keep their attributes.
    KeepBase,
    /// No directory keeps its attributes: those of the tree apply.
    Replace,
    /// All directories keep their attributes, except for these.
    Change {
        /// The mode.
        mode: Option<u32>,
        /// Owner and group.
        owner: Option<(u64, u64)>,
    },
}

/// A placed tree.
#[derive(Debug)]
pub struct Placed {
    /// The tree.
    pub tree: LayerTree,
    /// All lookups in the layers below. Their answers determine the placed tree.
    pub lookups: Lookups,
    /// The assumptions about the base, in order: directories with assumed attributes, and paths that are assumed to be
    /// new.
    pub assumed: Vec<LayerPath>,
}

/// The lookups in the layers below: a tree with the same content is placed identically for the same answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookups(Vec<(LayerPath, Purpose)>);

impl Lookups {
    /// Adds those of another tree.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
        self.0.sort_unstable();
        self.0.dedup();
    }

    /// The paths that were looked up.
    pub fn paths(&self) -> impl Iterator<Item = &LayerPath> {
        self.0.iter().map(|(path, _)| path)
    }

    /// The lookups as lines of text, which [`Lookups::parse`] reads.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line =
            |(path, purpose): &(LayerPath, Purpose)| format!("{} {}", purpose.word(), hex::encode(path.as_bytes()));
        self.0.iter().map(line).collect()
    }

    /// Parses the lines; `None` if one is malformed.
    #[must_use]
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let read = |line: &str| {
            let (word, path) = line.split_once(' ')?;
            let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.word() == word)?;
            Some((LayerPath::new(hex::decode(path).ok()?).ok()?, purpose))
        };
        Some(Self(lines.into_iter().map(read).collect::<Option<_>>()?))
    }

    /// The answers of `below`, as bytes for comparison.
    ///
    /// # Errors
    /// When an answer needs the base's layers.
    pub fn answers(&self, below: &LowerLayers) -> Result<Vec<u8>, PlaceError> {
        let mut answers = Vec::new();
        for (path, purpose) in &self.0 {
            let lower = below.at(path, *purpose);
            if lower.kind == LowerKind::Unknown {
                return Err(PlaceError::Unknown(path.clone()));
            }
            let base = !matches!(lower.origin, LowerOrigin::Layer(_));
            answers.extend_from_slice(format!("{:?} {base}\n", lower.kind).as_bytes());
        }
        Ok(answers)
    }
}

/// Places `tree` onto `below`.
///
/// # Errors
/// When the base must be read first, links form a loop, or entries meet entries that they cannot replace.
pub fn place(tree: LayerTree, below: &LowerLayers, rules: &PlacementRules) -> Result<Placed, PlaceError> {
    let mut placing = Placing {
        below,
        rules,
        files: if tree.len() == 1 { &rules.files } else { &FileRule::Replace },
        known: RefCell::default(),
        missing: RefCell::default(),
        ways: BTreeMap::new(),
        opaque: Vec::new(),
        moved: BTreeMap::new(),
        out: LayerTree::new(),
        assumed: BTreeSet::new(),
    };
    for (path, node) in tree.into_entries() {
        let entry = path.clone();
        placing.node(path, node).map_err(|error| error.of(entry))?;
    }
    placing.finish()
}

struct Placing<'a> {
    below: &'a LowerLayers,
    rules: &'a PlacementRules,
    files: &'a FileRule,
    /// The lookups so far.
    known: RefCell<BTreeMap<(LayerPath, Purpose), Lower>>,
    /// Directories without content, because a parent is missing.
    missing: RefCell<BTreeSet<LayerPath>>,
    /// The final paths of the tree's directories.
    ways: BTreeMap<LayerPath, LayerPath>,
    /// The opaque directories of the tree.
    opaque: Vec<LayerPath>,
    /// Files with another final path.
    moved: BTreeMap<LayerPath, LayerPath>,
    out: LayerTree,
    assumed: BTreeSet<LayerPath>,
}

impl Placing<'_> {
    fn node(&mut self, path: LayerPath, mut node: TreeNode) -> Result<(), PlaceError> {
        // Before the lookups of its parents.
        path.check_limits()?;
        let place = match &mut node.kind {
            NodeKind::Directory { opaque } => {
                let opaque = *opaque;
                if opaque && path.is_root() {
                    return Err(PlaceError::OpaqueRoot);
                }
                let place = self.directory(&path)?;
                if let Some(metadata) = self.kept(&place)? {
                    node.metadata = metadata;
                }
                if opaque {
                    self.opaque.push(place.clone());
                }
                place
            }
            NodeKind::Whiteout => self.beside(&path)?,
            _ => self.file(&path)?,
        };
        if let NodeKind::Hardlink(target) = &mut node.kind
            && let Some(place) = self.moved.get(target)
        {
            *target = place.clone();
        }
        place.check_limits()?;
        if place != path {
            self.moved.insert(path, place.clone());
        }
        Ok(self.out.insert(place, node)?)
    }

    /// The entry at `path` in the layers below, as seen through the new layer.
    fn at(&self, path: &LayerPath, purpose: Purpose) -> Result<Lower, PlaceError> {
        let absent = Lower { kind: LowerKind::Absent, origin: LowerOrigin::Base };
        if path.is_root() || self.opaque.iter().any(|directory| path != directory && path.starts_with(directory)) {
            return Ok(absent);
        }
        if self.is_in_missing(path) {
            self.missing.borrow_mut().insert(path.clone());
            return Ok(absent);
        }
        let key = (path.clone(), purpose);
        if let Some(lower) = self.known.borrow().get(&key) {
            return Ok(lower.clone());
        }
        let lower = self.below.at(path, purpose);
        if lower.kind == LowerKind::Unknown {
            return Err(PlaceError::Unknown(path.clone()));
        }
        self.known.borrow_mut().insert(key, lower.clone());
        Ok(lower)
    }

    /// Whether a parent of `path` is missing, by the nearest parent that was looked up.
    fn is_in_missing(&self, path: &LayerPath) -> bool {
        for above in path.ancestors() {
            if self.missing.borrow().contains(&above) {
                return true;
            }
            if let Some(lower) = self.known.borrow().get(&(above, Purpose::Directory)) {
                return lower.kind == LowerKind::Absent;
            }
        }
        false
    }

    /// The final path of the tree's directory `path`, with all links followed.
    fn directory(&mut self, path: &LayerPath) -> Result<LayerPath, PlaceError> {
        if path.is_root() {
            return Ok(LayerPath::root());
        }
        if let Some(way) = self.ways.get(path) {
            return Ok(way.clone());
        }
        let here = self.beside(path)?;
        let way = self.follow(&here, Purpose::Directory)?;
        // The parents of `here` are already checked.
        let steps = if way == here { vec![way.clone()] } else { way.steps().collect() };
        if let Some((above, lower)) = self.first_file(steps)? {
            let layer = self.below.name(lower.origin);
            return Err(PlaceError::NotADirectory { path: path.clone(), above, layer });
        }
        self.ways.insert(path.clone(), way.clone());
        Ok(way)
    }

    /// The target of `path` with all links followed; its parent has no links.
    fn follow(&self, path: &LayerPath, end: Purpose) -> Result<LayerPath, PlaceError> {
        let followed = links::follow_from(path.parent().unwrap_or_default(), path.file_name(), |step| {
            let purpose = if step == path { end } else { Purpose::Directory };
            match self.at(step, purpose)?.kind {
                LowerKind::Symlink(target) => Ok(Some(target)),
                _ => Ok::<_, PlaceError>(None),
            }
        });
        followed?.ok_or_else(|| PlaceError::Loop { path: path.clone() })
    }

    /// The first file among the steps to a path that has no links in it.
    fn first_file(&self, steps: Vec<LayerPath>) -> Result<Option<(LayerPath, Lower)>, PlaceError> {
        for step in steps {
            let lower = self.at(&step, Purpose::Directory)?;
            if lower.kind == LowerKind::File {
                return Ok(Some((step, lower)));
            }
        }
        Ok(None)
    }

    /// The final path of `path` without following its last component.
    fn beside(&mut self, path: &LayerPath) -> Result<LayerPath, PlaceError> {
        let parent = self.directory(&path.parent().unwrap_or_default())?;
        Ok(parent.join(path.file_name())?)
    }

    fn file(&mut self, path: &LayerPath) -> Result<LayerPath, PlaceError> {
        let place = self.beside(path)?;
        let (place, purpose) = match self.files {
            FileRule::Replace => (place, Purpose::File),
            FileRule::Follow => (self.follow(&place, Purpose::Through)?, Purpose::Through),
            FileRule::Into(name) if *name == path.file_name() => {
                (self.follow(&place, Purpose::Through)?, Purpose::Through)
            }
            FileRule::Into(_) => (self.follow(&place, Purpose::Renamed)?, Purpose::Renamed),
        };
        let lower = self.at(&place, purpose)?;
        let LowerKind::Directory(_) = lower.kind else { return Ok(place) };
        if let FileRule::Into(name) = self.files {
            let inside = self.follow(&place.join(name)?, Purpose::Through)?;
            let lower = self.at(&inside, Purpose::Through)?;
            return match lower.kind {
                LowerKind::Directory(_) => Err(self.onto_directory(path, inside, lower.origin)),
                _ => Ok(inside),
            };
        }
        Err(self.onto_directory(path, place, lower.origin))
    }

    fn onto_directory(&self, path: &LayerPath, directory: LayerPath, origin: LowerOrigin) -> PlaceError {
        PlaceError::OntoDirectory { path: path.clone(), directory, layer: self.below.name(origin) }
    }

    /// The attributes that the tree's directory `place` keeps from the layers below.
    fn kept(&mut self, place: &LayerPath) -> Result<Option<Metadata>, PlaceError> {
        let lower = self.at(place, Purpose::Directory)?;
        let LowerKind::Directory(metadata) = lower.kind else { return Ok(None) };
        let keeps = match self.rules.directories {
            DirectoryRule::KeepAll => true,
            DirectoryRule::KeepBase => !matches!(lower.origin, LowerOrigin::Layer(_)),
            DirectoryRule::Replace => false,
            DirectoryRule::Change { mode, owner } => {
                let noted = self.noted(place, metadata, lower.origin);
                let (uid, gid) = owner.unwrap_or((noted.uid, noted.gid));
                return Ok(Some(Metadata { mode: mode.unwrap_or(noted.mode), uid, gid, ..noted }));
            }
        };
        Ok(keeps.then(|| self.noted(place, metadata, lower.origin)))
    }

    /// Records an assumed directory, and sets its time.
    fn noted(&mut self, place: &LayerPath, metadata: Metadata, origin: LowerOrigin) -> Metadata {
        if origin != LowerOrigin::Assumed {
            return metadata;
        }
        self.assumed.insert(place.clone());
        Metadata { mtime: self.rules.mtime, ..metadata }
    }

    /// Adds the parents of entries.
    fn finish(mut self) -> Result<Placed, PlaceError> {
        let entries: Vec<LayerPath> = self.out.iter().map(|(path, _)| path.clone()).collect();
        for path in entries {
            for above in path.ancestors() {
                if self.out.get(&above).is_some() {
                    break;
                }
                let lower = self.at(&above, Purpose::Directory)?;
                let metadata = match lower.kind {
                    LowerKind::Directory(metadata) => self.noted(&above, metadata, lower.origin),
                    LowerKind::File => {
                        let layer = self.below.name(lower.origin);
                        return Err(PlaceError::NotADirectory { path, above, layer });
                    }
                    _ => Metadata::root(0o755, self.rules.mtime),
                };
                self.out.insert(above, TreeNode { metadata, kind: NodeKind::Directory { opaque: false } })?;
            }
        }
        let known = self.known.into_inner();
        let is_new = |lower: &Lower| lower.kind == LowerKind::Absent && lower.origin == LowerOrigin::Assumed;
        let new = known.iter().filter(|((_, purpose), lower)| *purpose == Purpose::Directory && is_new(lower));
        self.assumed.extend(new.map(|((path, _), _)| path.clone()));
        let lookups = Lookups(known.into_keys().collect());
        Ok(Placed { tree: self.out, lookups, assumed: self.assumed.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests;
