//! What a step left behind, taken, packed, and unpacked onto what was there before.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ociforge_manifests::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use tempfile::TempDir;

use super::CaptureError;
use crate::source::changes::{self, changes, snapshot};
use crate::source::overlay::{self, overlay};
use crate::tree::{LayerTree, NodeKind};
use crate::unpack::tests::{run, xattrs};
use crate::unpack::{UnpackOptions, XattrSpace, merge, unpack_layer};
use crate::{Compression, LayerPath, pack};

/// No time is later in what these tests take.
pub(in crate::source) const LATEST: i64 = 1_700_000_000;
/// When all was modified that was there before.
const BEFORE: i64 = 1_600_000_000;

/// A directory before a step, and places to have it changed in.
pub(in crate::source) struct Stage(TempDir);

/// An overlay mount that ends with this value.
struct Mounted<'a>(&'a Stage);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(self.0.path("merged")));
    }
}

impl Stage {
    /// `base` makes what is there before.
    pub(in crate::source) fn new(base: impl FnOnce(&Path)) -> Self {
        let stage = Self(tempfile::tempdir().unwrap());
        for name in ["base", "upper", "work", "merged", "staging"] {
            fs::create_dir(stage.path(name)).unwrap();
        }
        base(&stage.path("base"));
        age(&stage.path("base"));
        run(Command::new("cp").arg("-a").arg(stage.path("base")).arg(stage.path("copy")));
        run(Command::new("cp").arg("-a").arg(stage.path("base")).arg(stage.path("root")));
        stage
    }

    pub(in crate::source) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn mount(&self, space: XattrSpace) -> Mounted<'_> {
        let [lower, upper, work] = ["base", "upper", "work"].map(|name| self.path(name).display().to_string());
        let mut options =
            format!("lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=off,index=off,metacopy=off");
        if space == XattrSpace::User {
            options = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
        }
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(self.path("merged")));
        Mounted(self)
    }

    /// What the step leaves in an overlay, with what is seen through the mount before and after it is taken.
    pub(in crate::source) fn overlaid(&self, space: XattrSpace, step: impl FnOnce(&Path)) -> Taken {
        let mounted = self.mount(space);
        step(&self.path("merged"));
        drop(mounted);
        // What is one file with two names may look like two to who has the mount in its cache.
        let mounted = self.mount(space);
        let left = listing(&self.path("merged"));
        drop(mounted);
        let tree = self.overlay(space, &[]).unwrap();
        let _mounted = self.mount(space);
        Taken { tree, left, kept: listing(&self.path("merged")) }
    }

    pub(in crate::source) fn overlay(&self, space: XattrSpace, made: &[LayerPath]) -> Result<LayerTree, CaptureError> {
        let lower = [self.path("base")];
        let cancelled = &|| false;
        let options = overlay::OverlayOptions {
            space,
            fuse: false,
            lower: &lower,
            shared: changes::CaptureOptions { latest: LATEST, owners: None, made, restored: &[], cancelled },
        };
        overlay(&self.path("upper"), &options)
    }

    /// What the step leaves in a plain copy.
    pub(in crate::source) fn copied(&self, step: impl FnOnce(&Path)) -> Taken {
        let copy = self.path("copy");
        let before = snapshot(&copy, None, &|| false).unwrap();
        step(&copy);
        let left = listing(&copy);
        let options =
            changes::CaptureOptions { latest: LATEST, owners: None, made: &[], restored: &[], cancelled: &|| false };
        let tree = changes(&copy, &before, &options).unwrap();
        Taken { tree, left, kept: listing(&copy) }
    }

    /// What becomes of what was there before with the layer on top.
    pub(in crate::source) fn applied(&self, tree: &LayerTree) -> BTreeMap<String, String> {
        let (root, staging) = (self.path("root"), self.path("staging"));
        fs::remove_dir_all(&root).unwrap();
        fs::remove_dir_all(&staging).unwrap();
        fs::create_dir(&staging).unwrap();
        run(Command::new("cp").arg("-a").arg(self.path("base")).arg(&root));
        let mut blob = Vec::new();
        let layer = pack(tree, Compression::default(), 2, &mut blob).unwrap();
        let unpacked = unpack_layer(&blob[..], &layer.diff_id, &staging, &UnpackOptions::default()).unwrap();
        merge(&staging, &unpacked, &root).unwrap();
        listing(&root)
    }

    /// That the layer makes of what was there before what the step left, but for times, and those as they were kept.
    pub(in crate::source) fn check(&self, taken: &Taken, what: &str) {
        assert_same(&self.applied(&taken.tree), &taken.kept, what);
        let timeless = |files: &BTreeMap<String, String>| -> BTreeMap<String, String> {
            let strip = |line: &String| line.split_once('@').map_or_else(|| line.clone(), |(_, rest)| rest.to_owned());
            files.iter().map(|(name, line)| (name.clone(), strip(line))).collect()
        };
        assert_same(&timeless(&taken.kept), &timeless(&taken.left), what);
    }
}

/// The layer of a step, and what the step's root was like.
pub(in crate::source) struct Taken {
    pub(in crate::source) tree: LayerTree,
    left: BTreeMap<String, String>,
    kept: BTreeMap<String, String>,
}

fn assert_same(is: &BTreeMap<String, String>, should: &BTreeMap<String, String>, what: &str) {
    let all: std::collections::BTreeSet<_> = is.keys().chain(should.keys()).collect();
    let differ: Vec<_> = all.into_iter().filter(|name| is.get(*name) != should.get(*name)).collect();
    let shown: Vec<_> = differ.iter().map(|name| (name, is.get(*name), should.get(*name))).collect();
    assert!(shown.is_empty(), "{what}: {shown:#?}");
}

/// The entries of a tree, a line each.
pub(in crate::source) fn lines(tree: &LayerTree) -> Vec<String> {
    let line = |(path, node): (&LayerPath, &crate::TreeNode)| {
        let what = match &node.kind {
            NodeKind::Directory { opaque } => if *opaque { "opaque" } else { "directory" }.to_owned(),
            NodeKind::File(content) => format!("file {}", content.len()),
            NodeKind::Symlink(target) => format!("-> {}", target.escape_ascii()),
            NodeKind::Hardlink(target) => format!("= {}", target.as_bytes().escape_ascii()),
            NodeKind::Whiteout => "gone".to_owned(),
            NodeKind::Fifo => "fifo".to_owned(),
            NodeKind::CharDevice { major, minor } => format!("c {major}:{minor}"),
            NodeKind::BlockDevice { major, minor } => format!("b {major}:{minor}"),
        };
        format!("{} {what}", path.as_bytes().escape_ascii())
    };
    tree.iter().map(line).collect()
}

/// Every file below `root` with all that it has: time, `@`, and the rest.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let (mut all, mut links) = (BTreeMap::new(), BTreeMap::new());
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let kind = meta.file_type();
        let what = if kind.is_file() {
            Digest::of(&fs::read(&path).unwrap()).short().to_owned()
        } else if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("device {:#x}", meta.rdev())
        } else {
            String::new()
        };
        if kind.is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if meta.nlink() > 1 {
            links.entry((meta.dev(), meta.ino())).or_insert_with(Vec::new).push(name.clone());
        }
        let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
        let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
        let line = format!("{seconds}.{nanoseconds}@{mode:o} {uid}:{gid}{} {what}", xattrs(&path));
        all.insert(name, line);
    }
    for mut names in links.into_values().filter(|names| names.len() > 1) {
        names.sort();
        names.iter().for_each(|name| all.get_mut(name).unwrap().push_str(&format!(" = {}", names[0])));
    }
    all
}

/// Has everything modified long ago.
fn age(root: &Path) {
    let time = Timespec { tv_sec: BEFORE, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            ahead.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Has a shell do it in the directory.
pub(in crate::source) fn shell(directory: &Path, script: &str) {
    run(Command::new("sh").args(["-euc", script]).current_dir(directory));
}

/// Sets extended attributes: path, name, value.
pub(in crate::source) fn set(directory: &Path, all: &[(&str, &str, &str)]) {
    for (path, name, value) in all {
        rustix::fs::lsetxattr(directory.join(path), *name, value.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
    }
}
