//! The known files of the base: from the lock, from the base's layers, or only assumed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ociforge_layers::index::IndexEntry;
use ociforge_layers::{
    BaseFiles, FileIndex, LayerPath, LayerTree, LockedFiles, LowerLayers, Metadata, NodeKind, TreeNode, links, place,
};

use super::error::failed;
use super::interpreter::Interpreter;
use super::pins::Pins;
use super::{BuildError, Builder};
use crate::base::BaseImage;
use crate::base::facts::{self, Contents};
use crate::layer::{ImageOrigin, LayerPart, Step, StepKind, TreeSource};
use crate::lock::LockedBase;
use crate::plan::{Base, Plan, Stage};
use crate::python::install;
use crate::rootfs::merge::UnpackedLayers;
use crate::rootfs::writable::{owners, stacked_roots};
use crate::transfer::Overlay;

/// Common subdirectories of the data directory of packages.
const DATA: [&str; 4] = ["etc", "share", "share/man", "share/man/man1"];

/// The maximum number of entries in a lock. Bases whose directories do not belong to root have very many.
const MAX_LOCKED: usize = 5000;

/// The known files of the base, without reading its layers unless `check_base` requires it.
pub(super) async fn known(
    builder: &Builder,
    base: &BaseImage,
    locked: Option<&LockedBase>,
) -> Result<BaseFiles, BuildError> {
    Ok(match locked.and_then(|locked| locked.files.clone()) {
        _ if base.source.is_none() => BaseFiles::Known(FileIndex::default()),
        _ if builder.check_base => BaseFiles::Known(contents(builder, base).await?.files),
        Some(files) => BaseFiles::Locked(files),
        None => BaseFiles::Assumed,
    })
}

/// The content of the base's layers. They are read once, and not stored, but unpacked if steps run in them.
pub(super) async fn contents(builder: &Builder, base: &BaseImage) -> Result<Contents, BuildError> {
    // Read layers that are in the store from there.
    let source = Overlay::new(&[], builder.store.layout(), base.source.as_deref());
    let sandbox = builder.sandbox().ok().filter(|_| builder.state.runs_on(&base.image.manifest.digest()));
    let roots = sandbox.and_then(|sandbox| {
        let owners = owners(&sandbox.entered);
        Some((stacked_roots(&builder.store, &sandbox.entered, owners)?, owners))
    });
    let cancel = &builder.cancel;
    let unpack = roots.as_ref().map(|(roots, owners)| UnpackedLayers { roots, owners: *owners, cancel });
    let contents = facts::contents(&base.image, &source, &builder.store.facts(), &*builder.reporter, unpack).await;
    let name = base.name.as_ref().map_or("scratch".to_owned(), ToString::to_string);
    contents.map_err(|source| BuildError::Facts { name, source: Box::new(source) })
}

/// The files of the base of the stage `root` that a lock must contain: links to directories, directories that do not
/// belong to root with mode 0755, all parts of the paths that stages on this base add or copy, and the content of the
/// directories of packages. `None` if these stages add no files. `pins` are those of all needed stages.
pub(super) async fn to_lock(
    builder: &Builder,
    plan: &Plan,
    root: usize,
    pins: &BTreeMap<usize, Pins>,
) -> Result<Option<LockedFiles>, BuildError> {
    let stages = || pins.iter().filter(|(n, _)| plan.root(**n) == root);
    let copied = copied_paths(plan, root, pins);
    let adds_files =
        |(n, _): (&usize, &Pins)| plan.stages[*n].steps.iter().any(|step| !matches!(step.kind, StepKind::Run(_)));
    if copied.is_empty() && !stages().any(adds_files) {
        return Ok(None);
    }
    let files = contents(builder, &pins[&root].root).await?.files;
    let mut locked = Locking { builder, plan, looked_up: copied, listed: BTreeSet::new() };
    let mut above = BTreeMap::new();
    for (n, pins) in stages() {
        let below = match plan.stages[*n].base {
            Base::Stage(stage) => above.get(&stage).cloned(),
            _ => None,
        };
        let mut below = below.unwrap_or_else(|| LowerLayers::new(BaseFiles::Known(files.clone())));
        locked.stage(&plan.stages[*n], pins, &mut below)?;
        above.insert(*n, below);
    }
    let Locking { mut looked_up, mut listed, .. } = locked;
    // Drop paths that are links or missing in the base.
    listed.retain(|path| matches!(files.get(path), Some(IndexEntry::Directory { .. })));
    let is_listed = |path: &LayerPath| path.parent().is_some_and(|parent| listed.contains(&parent));
    looked_up.extend(files.iter().map(|(path, _)| path).filter(is_listed));
    Ok(Some(LockedFiles { files: select(&files, looked_up), listed }))
}

/// The paths, with those above them, that any stage copies from the stages on the base of `root`.
fn copied_paths(plan: &Plan, root: usize, pins: &BTreeMap<usize, Pins>) -> Vec<LayerPath> {
    let steps = pins.keys().flat_map(|n| &plan.stages[*n].steps);
    let copies = steps.filter_map(|step| match step.kind.as_kind().copies_from()? {
        (ImageOrigin::Stage(stage), path) => Some((*stage, path)),
        (ImageOrigin::Image(_), _) => None,
    });
    copies.filter(|(stage, _)| plan.root(*stage) == root).flat_map(|(_, path)| path.steps()).collect()
}

/// Collects the paths that the layers of stages look up in their base.
struct Locking<'a> {
    builder: &'a Builder,
    plan: &'a Plan,
    looked_up: Vec<LayerPath>,
    listed: BTreeSet<LayerPath>,
}

impl Locking<'_> {
    fn stage(&mut self, stage: &Stage, pins: &Pins, below: &mut LowerLayers) -> Result<(), BuildError> {
        let scratch = self.builder.store.scratch().map_err(BuildError::Store)?;
        for step in &stage.steps {
            for LayerPart { tree, rules } in self.parts(stage, step, pins, &scratch)? {
                let Some(rules) = rules else { continue };
                let tree = tree.make().map_err(|error| failed(step, error))?;
                let placed = match (place(tree, below, &rules), step.kind.as_kind().lock_directory()) {
                    (Ok(placed), _) => placed,
                    // A file of the base may be in the place of the directory that stands for the copied file.
                    (Err(_), Some(directory)) => {
                        self.looked_up.extend(directory.steps());
                        continue;
                    }
                    (Err(error), None) => return Err(failed(step, error)),
                };
                self.looked_up.extend(placed.lookups.paths().cloned());
                below.push(&step.description, FileIndex::of(&placed.tree));
            }
        }
        Ok(())
    }

    /// The trees of a step, or directories that stand for them if they are not known before the build.
    fn parts(&mut self, stage: &Stage, step: &Step, pins: &Pins, scratch: &Path) -> Result<Vec<LayerPart>, BuildError> {
        let directories = match (step.kind.as_kind().lock_directory(), &step.kind, &pins.interpreter) {
            (Some(directory), ..) => vec![directory.clone()],
            (None, StepKind::Pip(_), Some(interpreter)) => directories_of(interpreter),
            _ => {
                let work = self.builder.work_of_files(self.plan, stage, step, None, scratch)?;
                return Ok(work.map_or_else(Vec::new, |work| work.parts));
            }
        };
        self.listed.extend(directories.iter().cloned());
        let mut tree = LayerTree::new();
        for path in directories.into_iter().filter(|path| !path.is_root()) {
            let kind = NodeKind::Directory { opaque: false };
            // All of them are directories, so they do not conflict.
            let _ = tree.insert(path, TreeNode { metadata: Metadata::root(0o755, 0), kind });
        }
        let rules = install::rules(self.builder.epoch.seconds());
        Ok(vec![LayerPart { tree: TreeSource::Made(tree), rules: Some(rules) }])
    }
}

/// The directories of installed packages.
fn directories_of(Interpreter { scheme, .. }: &Interpreter) -> Vec<LayerPath> {
    let data = DATA.iter().filter_map(|name| scheme.data.join(name).ok());
    let own = [&scheme.purelib, &scheme.platlib, &scheme.scripts, &scheme.data, &scheme.headers].map(Clone::clone);
    own.into_iter().chain(data).collect()
}

fn select(files: &FileIndex, looked_up: Vec<LayerPath>) -> FileIndex {
    let is_telling = |(path, entry): &(LayerPath, IndexEntry)| match entry {
        IndexEntry::Directory { metadata: Metadata { mode, uid, gid, xattrs, .. }, .. } => {
            (*mode, *uid, *gid) != (0o755, 0, 0) || !xattrs.is_empty()
        }
        IndexEntry::Symlink(_) => !is_data(path) && leads_to_a_directory(files, path),
        IndexEntry::File | IndexEntry::Whiteout => false,
    };
    let mut chosen: Vec<_> = files.iter().filter(is_telling).collect();
    chosen.sort_by_key(|(path, _)| path.steps().count());
    chosen.truncate(MAX_LOCKED);
    chosen.extend(looked_up.into_iter().map(|path| {
        let entry = files.get(&path).unwrap_or(IndexEntry::Whiteout);
        (path, entry)
    }));
    chosen.sort_by(|a, b| a.0.cmp(&b.0));
    chosen.dedup_by(|a, b| a.0 == b.0);
    chosen.into_iter().collect()
}

/// Whether a path is below a directory that has many links to directories and receives no installed files.
fn is_data(path: &LayerPath) -> bool {
    [b"usr/share/doc/".as_slice(), b"usr/share/zoneinfo/"].iter().any(|place| path.as_bytes().starts_with(place))
}

/// Whether the target of a link is a directory or missing.
fn leads_to_a_directory(files: &FileIndex, path: &LayerPath) -> bool {
    let target = links::follow(path, |path| match files.get(path) {
        Some(IndexEntry::Symlink(target)) => Ok(Some(target)),
        _ => Ok::<_, std::convert::Infallible>(None),
    });
    let Ok(Some(target)) = target else { return false };
    matches!(files.get(&target), None | Some(IndexEntry::Directory { .. }))
}
