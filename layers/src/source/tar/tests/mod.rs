//! Archives by GNU tar and by the `tar` crate, whole and broken.

mod archives;
mod entries;

use std::fs;
use std::os::unix::ffi::OsStrExt;

use ::tar::{Builder, EntryType, Header};

use super::*;

type Build = Builder<Vec<u8>>;

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1000);
    header.set_device_major(5).unwrap();
    header.set_device_minor(1).unwrap();
    header.set_cksum();
    header
}

/// Adds a member under a name that is not looked at, as the crate would look at it.
fn add(build: &mut Build, kind: EntryType, name: &str, link: &str, content: &str) {
    let mut header = header(kind, content.len() as u64);
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    build.append(&header, content.as_bytes()).unwrap();
}

fn archive(members: &[(EntryType, &str, &str, &str)]) -> Vec<u8> {
    let mut build = Build::new(Vec::new());
    members.iter().for_each(|(kind, name, link, content)| add(&mut build, *kind, name, link, content));
    build.into_inner().unwrap()
}

fn read(bytes: &[u8]) -> Result<LayerTree, TarError> {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.tar");
    fs::write(&path, bytes).unwrap();
    let tree = read_tar(&path, &TarOptions { scratch: scratch.path(), latest: None });
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "something was left behind");
    tree
}

fn shown(tree: &LayerTree) -> Vec<String> {
    let kind = |kind: &NodeKind| match kind {
        NodeKind::Directory { opaque } => if *opaque { "opaque" } else { "dir" }.to_owned(),
        NodeKind::File(Content::Slice { file, range, .. }) => {
            format!("= {}", String::from_utf8_lossy(&file[range.clone()]))
        }
        NodeKind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(target)),
        NodeKind::Hardlink(target) => format!("== {target}"),
        other => format!("{other:?}"),
    };
    tree.iter().map(|(path, node)| format!("{path} {}", kind(&node.kind))).collect()
}

fn cause(members: &[(EntryType, &str, &str, &str)]) -> TarCause {
    read(&archive(members)).unwrap_err().cause
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Link;
const SYM: EntryType = EntryType::Symlink;
