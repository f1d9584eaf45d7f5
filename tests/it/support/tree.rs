//! What a directory holds, to be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::digest_of;

/// Every file below `root` and itself: type, mode, owner, time, content or target or device, links, attributes.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut paths = vec![root.to_owned()];
    let mut at = 0;
    while at < paths.len() {
        let path = paths[at].clone();
        if path.symlink_metadata().unwrap().is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        at += 1;
    }
    paths.sort();
    let mut first_of = BTreeMap::new();
    let mut tree = BTreeMap::new();
    for path in paths {
        let short = path.strip_prefix(root).unwrap().to_owned();
        let facts = fs::symlink_metadata(&path).unwrap();
        let kind = facts.file_type();
        let what = if kind.is_file() {
            digest_of(&fs::read(&path).unwrap())
        } else if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_char_device() || kind.is_block_device() {
            facts.rdev().to_string()
        } else {
            String::new()
        };
        let first = first_of.entry((facts.dev(), facts.ino())).or_insert_with(|| short.clone()).clone();
        let same_as = if kind.is_dir() || first == short { String::new() } else { first.display().to_string() };
        let (mode, uid, gid, mtime) = (facts.mode(), facts.uid(), facts.gid(), facts.mtime());
        tree.insert(short, format!("{mode:o} {uid}:{gid} @{mtime} {what} ={same_as} {}", xattrs(&path)));
    }
    tree
}

fn xattrs(path: &Path) -> String {
    let mut list = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap_or(0);
    let mut names: Vec<_> = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let shown = names.into_iter().map(|name| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value).unwrap();
        format!("{}={}", String::from_utf8_lossy(name), hex::encode(&value[..length]))
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// Asserts that two trees are the same, and tells the first differences.
#[track_caller]
pub(crate) fn assert_same(ours: &BTreeMap<PathBuf, String>, theirs: &BTreeMap<PathBuf, String>) {
    let paths: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differ = paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path));
    let told: Vec<_> = differ
        .map(|path| format!("{}\n  {:?}\n  {:?}", path.display(), ours.get(path), theirs.get(path)))
        .take(8)
        .collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
}
