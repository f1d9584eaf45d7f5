//! Real overlay mounts, which take root.

mod changes;
mod fuse;
mod layers;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};

use super::super::capture::tests::{LATEST, Stage, lines, set, shell};
use super::*;
use crate::tree::{Content, NodeKind};
use crate::unpack::tests::run;

const BOTH: [XattrSpace; 2] = [XattrSpace::Trusted, XattrSpace::User];

fn base(root: &Path) {
    let script = "
        mkdir -p etc/sub usr/lib var/gone/deep var/again var/file-to-be
        echo 1 > etc/one; echo 2 > etc/two; echo 3 > etc/sub/three; echo 4 > var/gone/deep/four
        echo 5 > var/again/five; echo 6 > var/file-to-be/six; echo 7 > directory-to-be
        ln etc/one etc/uno; ln -s usr/lib lib; chmod 1777 var; chown 7:8 usr";
    shell(root, script);
    set(root, &[("usr/lib", "user.a", "b")]);
}

fn content<'a>(tree: &'a LayerTree, name: &str) -> &'a Content {
    match &tree.get(&name.parse().unwrap()).unwrap().kind {
        NodeKind::File(content) => content,
        other => panic!("{other:?}"),
    }
}
