//! Stamps of files on disk: a change of a file changes its times or its inode, so these stand for its content in a cache
//! key.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ociforge_layers::{Content, LayerTree, Metadata, NodeKind};
use ociforge_manifests::Digest;
use ociforge_manifests::document::canonical;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The age below which a file may change again without a change of its times.
const RACY: Duration = Duration::from_secs(2);

/// The stamp of a tree of files on disk; `None` if a file is too young for a stamp.
pub(super) fn tree_stamp(tree: &LayerTree) -> Option<Digest> {
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

/// The stamp of a file; `None` if it is too young for a stamp.
pub(super) fn file_stamp(path: &PathBuf) -> Option<Value> {
    let metadata = fs::metadata(path).ok()?;
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).ok()?);
    let old = SystemTime::now().duration_since(changed).is_ok_and(|age| age > RACY);
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    old.then(|| json!([metadata.dev(), metadata.ino(), metadata.size(), times]))
}
