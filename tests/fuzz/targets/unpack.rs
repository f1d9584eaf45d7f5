//! A layer is unpacked and put onto a root filesystem, twice: nothing outside of both is touched.

#![no_main]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use ociforge_fuzz::{scratch, tar::with_checksums};
use ociforge_layers::decompress::CompressionFormat;
use ociforge_layers::unpack::{OwnerPolicy, UnpackOptions, merge, unpack_layer};
use ociforge_manifests::{DiffId, Digest};

fuzz_target!(|data: &[u8]| {
    if CompressionFormat::of(data) != CompressionFormat::Plain {
        return;
    }
    let tar = with_checksums(data);
    let directory = scratch().join("unpack");
    let _ = fs::remove_dir_all(&directory);
    let (root, outside) = (directory.join("root"), directory.join("outside"));
    prepare(&root, &outside).expect("the scratch directory can be written");
    let before = (seen(&outside), seen(&outside.join("file")));
    for name in ["first", "second"] {
        put(&tar, &directory.join(name), &root);
    }
    assert_eq!(before, (seen(&outside), seen(&outside.join("file"))), "something outside was changed");
    assert_eq!(fs::read(outside.join("file")).expect("it is still there"), b"outside");
    assert_eq!(names(&outside), ["file"]);
    assert_eq!(names(&directory), ["first", "outside", "root", "second"]);
});

fn put(tar: &[u8], layer: &Path, root: &Path) {
    fs::create_dir(layer).expect("the scratch directory can be written");
    let options = UnpackOptions { owners: OwnerPolicy::KeptWherePossible, devices: false, cancelled: &|| false };
    if let Ok(unpacked) = unpack_layer(tar, &DiffId(Digest::of(tar)), layer, &options) {
        let _ = merge(layer, &unpacked, root);
    }
}

/// A root filesystem with links that lead out of it, and what they lead to.
fn prepare(root: &Path, outside: &Path) -> std::io::Result<()> {
    fs::create_dir_all(root.join("usr/lib"))?;
    fs::create_dir(outside)?;
    fs::write(outside.join("file"), "outside")?;
    fs::write(root.join("file"), "inside")?;
    symlink("usr/lib", root.join("lib"))?;
    symlink("../outside", root.join("up"))?;
    symlink(outside, root.join("absolute"))?;
    symlink("../outside/file", root.join("to"))
}

/// What would tell that a file was changed.
fn seen(path: &Path) -> (u32, u32, u32, u64, i64, i64) {
    let metadata = fs::symlink_metadata(path).expect("it is still there");
    let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.permissions().mode());
    (mode, uid, gid, metadata.nlink(), metadata.mtime(), metadata.mtime_nsec())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is still there");
    let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect();
    names.sort();
    names
}
