//! Steps that only need files: directories, copies, archives.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use ociforge_layers::place::{DirectoryRule, FileRule};
use ociforge_layers::regular::open_regular;
use ociforge_layers::source::directory::{CopyDestination, DirectoryOptions, Exclusion, take};
use ociforge_layers::source::ignore::Patterns;
use ociforge_layers::source::tar;
use ociforge_layers::{Content, LayerPath, LayerTree, Metadata, NodeKind, PlacementRules, TreeNode};
use ociforge_manifests::Digest;
use ociforge_manifests::document::canonical;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::epoch::Epoch;
use super::error::{BuildError, StepError};
use super::pack::{Part, TreeSource, Work};
use crate::plan::{Base, Owner, Plan, Step, StepKind};
use crate::progress::Reporter;

/// The age below which a file may change again without a change of its times.
const RACY: Duration = Duration::from_secs(2);

/// The work of a step with files; `None` for packages and commands.
pub(super) fn work(
    plan: &Plan,
    step: &Step,
    epoch: Epoch,
    scratch: &Path,
    reporter: &dyn Reporter,
) -> Result<Option<Work>, BuildError> {
    let mtime = epoch.seconds();
    let made = match &step.kind {
        StepKind::Directories { paths, mode, owner } => directories(paths, *mode, *owner, mtime),
        StepKind::Copy { from, to, exclude, owner, mode } => {
            let options = copy_options(plan, from, exclude, *owner, *mode, mtime);
            options.and_then(|options| copy(plan, step, from, to, &options, reporter))
        }
        StepKind::Tar { file } => return archive(plan, file, step, epoch, scratch).map(Some),
        StepKind::Pip(_) | StepKind::Run(_) => return Ok(None),
    };
    let Made { ingredients, tree, rules } = made.map_err(|source| failed(step, source))?;
    let (step, description, size) = (step.clone(), step.description.clone(), tree.content_len());
    let parts = vec![Part { tree: TreeSource::Made(tree), rules: Some(rules) }];
    Ok(Some(Work { step, ingredients, description, size, parts, joinable: true }))
}

/// The error of a step.
pub(super) fn failed(step: &Step, source: impl Into<StepError>) -> BuildError {
    BuildError::Step { step: step.description.clone(), line: step.line, source: Box::new(source.into()) }
}

/// The tree of a step.
struct Made {
    ingredients: Option<Value>,
    tree: LayerTree,
    rules: PlacementRules,
}

fn directories(paths: &[LayerPath], mode: Option<u32>, owner: Option<Owner>, mtime: i64) -> Result<Made, StepError> {
    let mut tree = LayerTree::new();
    let (uid, gid) = owner.map_or((0, 0), |owner| (owner.uid.into(), owner.gid.into()));
    for path in paths {
        let metadata = Metadata { uid, gid, ..Metadata::root(mode.unwrap_or(0o755), mtime) };
        tree.insert(path.clone(), TreeNode { metadata, kind: NodeKind::Directory { opaque: false } })?;
    }
    let directories = DirectoryRule::Change { mode, owner: owner.map(|owner| (owner.uid.into(), owner.gid.into())) };
    // No cache key: making directories is cheaper than a lookup.
    Ok(Made { ingredients: None, tree, rules: PlacementRules { files: FileRule::Replace, directories, mtime } })
}

fn copy_options(
    plan: &Plan,
    from: &Path,
    exclude: &[String],
    owner: Option<Owner>,
    mode: Option<u32>,
    mtime: i64,
) -> Result<DirectoryOptions, StepError> {
    let source = LayerPath::new(from.as_os_str().as_encoded_bytes()).map_err(|_| StepError::Outside(from.into()))?;
    let malformed = |place| move |source| StepError::Pattern { place, source };
    let ignored = Patterns::of_directory(&plan.directory).map_err(malformed(".dockerignore"))?;
    let excluded = Patterns::new(exclude).map_err(malformed("exclude"))?;
    let exclude =
        vec![Exclusion { patterns: ignored, source }, Exclusion { patterns: excluded, source: LayerPath::root() }];
    let owner = owner.map(|owner| (owner.uid.into(), owner.gid.into()));
    Ok(DirectoryOptions { exclude, owner, mode, mtime, special: true })
}

fn copy(
    plan: &Plan,
    step: &Step,
    from: &Path,
    to: &CopyDestination,
    options: &DirectoryOptions,
    reporter: &dyn Reporter,
) -> Result<Made, StepError> {
    let path = plan.locate(from);
    stays_inside(&plan.directory, &path)?;
    let taken = take(&path, to, options)?;
    warn_of_sockets(&taken.sockets, step, reporter);
    let files = match path.file_name() {
        _ if path.is_dir() => FileRule::Replace,
        Some(name) if !to.into => FileRule::Into(name.as_encoded_bytes().to_vec()),
        _ => FileRule::Follow,
    };
    // A copy with a mode or an owner also sets those of directories that earlier layers of the recipe created.
    let stated = options.mode.is_some() || options.owner.is_some();
    let directories = if stated { DirectoryRule::KeepBase } else { DirectoryRule::KeepAll };
    let rules = PlacementRules { files, directories, mtime: options.mtime };
    let ingredients = stamps(&taken.tree).map(|stamps| json!({"copy": stamps, "rules": format!("{rules:?}")}));
    Ok(Made { ingredients, tree: taken.tree, rules })
}

/// Warns about skipped sockets, and names the first few.
fn warn_of_sockets(sockets: &[PathBuf], step: &Step, reporter: &dyn Reporter) {
    const NAMED: usize = 3;
    let mut names: Vec<_> = sockets.iter().take(NAMED).map(|path| path.display().to_string()).collect();
    match sockets.len() {
        0 => return,
        count if count > NAMED => names.push(format!("and {} more", count - NAMED)),
        _ => {}
    }
    reporter.warn(&format!("`{}` leaves out sockets, which no layer can have: {}", step.description, names.join(", ")));
}

/// Rejects a path that leads out of the recipe's directory, also through symbolic links.
pub(super) fn stays_inside(directory: &Path, path: &Path) -> Result<(), StepError> {
    let real = |path: &Path| path.canonicalize().map_err(|source| StepError::Read { path: path.into(), source });
    if real(path)?.starts_with(real(directory)?) { Ok(()) } else { Err(StepError::Outside(path.into())) }
}

/// Whether an archive replaces a base: it is the first layer on `scratch`, and its path leads out of the recipe's
/// directory without a link. Like a base in a layout, it may be anywhere.
fn is_root_filesystem(plan: &Plan, step: &Step, file: &Path) -> bool {
    let first = plan.steps.first().is_some_and(|first| first.line == step.line);
    let written_outside = lexically_outside(&plan.directory, file);
    plan.base == Base::Scratch && first && written_outside
}

/// Whether a path leads out of a directory lexically, without a link.
fn lexically_outside(directory: &Path, path: &Path) -> bool {
    let Ok(below) = path.strip_prefix(directory) else { return true };
    let mut depth = 0_i64;
    below.components().any(|component| {
        depth += if component == Component::ParentDir { -1 } else { 1 };
        depth < 0
    })
}

/// The work of an archive. It is read only if the store does not have the layer.
fn archive(plan: &Plan, file: &Path, step: &Step, epoch: Epoch, scratch: &Path) -> Result<Work, BuildError> {
    let file = plan.locate(file);
    if !is_root_filesystem(plan, step, &file) {
        stays_inside(&plan.directory, &file).map_err(|error| failed(step, error))?;
    }
    let failed_to_read = |source| failed(step, StepError::Read { path: file.clone(), source });
    let metadata = open_regular(&file).and_then(|file| file.metadata()).map_err(failed_to_read)?;
    let latest = epoch.stated();
    let ingredients = file_stamp(&file).map(|stamp| json!({"tar": stamp, "latest": latest}));
    let (reading, scratch) = (step.clone(), scratch.to_owned());
    let tree = TreeSource::Later(Box::new(move || {
        let options = tar::TarOptions { scratch: &scratch, latest };
        tar::read_tar(&file, &options).map_err(|error| failed(&reading, error))
    }));
    // The attributes of directories in the archive apply.
    let rules =
        PlacementRules { files: FileRule::Replace, directories: DirectoryRule::Replace, mtime: epoch.seconds() };
    let (step, description) = (step.clone(), step.description.clone());
    let parts = vec![Part { tree, rules: Some(rules) }];
    Ok(Work { step, ingredients, description, size: metadata.len(), parts, joinable: false })
}

/// The inputs of a tree of files on disk: the metadata of each file, because every change of a file changes its times
/// or its inode. `None` if a file is too young for that.
fn stamps(tree: &LayerTree) -> Option<Digest> {
    let mut all = Sha256::new();
    for (path, node) in tree.iter() {
        let Metadata { mode, uid, gid, mtime, .. } = &node.metadata;
        let content = match &node.kind {
            NodeKind::File(Content::Path { path, .. }) => file_stamp(path)?,
            NodeKind::Symlink(target) => json!(target),
            NodeKind::Hardlink(target) => json!(target.as_bytes()),
            NodeKind::Directory { .. } => Value::Null,
            special => json!(format!("{special:?}")),
        };
        all.update(canonical(&json!([path.as_bytes(), mode, uid, gid, mtime, content])));
    }
    Some(Digest::from_sha256(&all.finalize().into()))
}

fn file_stamp(path: &PathBuf) -> Option<Value> {
    let metadata = fs::metadata(path).ok()?;
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).ok()?);
    let old = SystemTime::now().duration_since(changed).is_ok_and(|age| age > RACY);
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    old.then(|| json!([metadata.dev(), metadata.ino(), metadata.size(), times]))
}
