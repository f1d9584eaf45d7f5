//! The known files of the base: from the lock, from the base's layers, or only assumed.

use std::collections::BTreeSet;

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
use crate::layer::{LayerPart, StepKind, TreeSource};
use crate::lock::LockedBase;
use crate::plan::Plan;
use crate::python::install;
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

/// The content of the base's layers. They are read once, and not stored.
pub(super) async fn contents(builder: &Builder, base: &BaseImage) -> Result<Contents, BuildError> {
    // Read layers that are in the store from there.
    let source = Overlay::new(&[], builder.store.layout(), base.source.as_deref());
    let contents = facts::contents(&base.image, &source, &builder.store.facts(), &*builder.reporter).await;
    let name = base.name.as_ref().map_or("scratch".to_owned(), ToString::to_string);
    contents.map_err(|source| BuildError::Facts { name, source: Box::new(source) })
}

/// The files of the base that a lock must contain: links to directories, directories that do not belong to root with
/// mode 0755, all parts of the paths that the plan adds to the image, and the content of the directories of packages.
/// `None` if the plan adds no files.
pub(super) async fn to_lock(builder: &Builder, plan: &Plan, pins: &Pins) -> Result<Option<LockedFiles>, BuildError> {
    if plan.steps.iter().all(|step| matches!(step.kind, StepKind::Run(_))) {
        return Ok(None);
    }
    let files = contents(builder, &pins.base).await?.files;
    let mut below = LowerLayers::new(BaseFiles::Known(files.clone()));
    let (mut looked_up, mut listed): (Vec<LayerPath>, BTreeSet<LayerPath>) = Default::default();
    let scratch = builder.store.scratch().map_err(BuildError::Store)?;
    for step in &plan.steps {
        let parts = match (builder.work_of_files(plan, step, &scratch)?, &pins.interpreter) {
            (Some(work), _) => work.parts,
            (None, Some(interpreter)) if matches!(step.kind, StepKind::Pip(_)) => {
                let part = directories_of(interpreter, builder);
                if let TreeSource::Made(tree) = &part.tree {
                    listed.extend(tree.iter().map(|(path, _)| path.clone()));
                }
                vec![part]
            }
            _ => continue,
        };
        for LayerPart { tree, rules } in parts {
            let Some(rules) = rules else { continue };
            let placed = place(tree.make().map_err(|error| failed(step, error))?, &below, &rules)
                .map_err(|error| failed(step, error))?;
            looked_up.extend(placed.lookups.paths().cloned());
            below.push(&step.description, FileIndex::of(&placed.tree));
        }
    }
    // Drop paths that are links or missing in the base.
    listed.retain(|path| matches!(files.get(path), Some(IndexEntry::Directory { .. })));
    let is_listed = |path: &LayerPath| path.parent().is_some_and(|parent| listed.contains(&parent));
    looked_up.extend(files.iter().map(|(path, _)| path).filter(is_listed));
    Ok(Some(LockedFiles { files: select(&files, looked_up), listed }))
}

/// The directories of installed packages.
fn directories_of(Interpreter { scheme, .. }: &Interpreter, builder: &Builder) -> LayerPart {
    let mut tree = LayerTree::new();
    let data = DATA.iter().filter_map(|name| scheme.data.join(name).ok());
    let own = [&scheme.purelib, &scheme.platlib, &scheme.scripts, &scheme.data, &scheme.headers].map(Clone::clone);
    for path in own.into_iter().chain(data) {
        let directory = TreeNode { metadata: Metadata::root(0o755, 0), kind: NodeKind::Directory { opaque: false } };
        // All of them are directories, so they do not conflict.
        let _ = tree.insert(path, directory);
    }
    LayerPart { tree: TreeSource::Made(tree), rules: Some(install::rules(builder.epoch.seconds())) }
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
