//! The same image unpacked by umoci gives the same files.

use serde_json::json;

use super::*;
use crate::source::tar as tar_source;
use crate::{Compression, pack};

/// Writes an OCI layout with one image, tagged `t`.
fn layout(path: &Path, layers: &[Layer]) {
    let blob = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len()})
    };
    let typed = |mut descriptor: serde_json::Value, media: &str| {
        descriptor["mediaType"] = format!("application/vnd.oci.image.{media}").into();
        descriptor
    };
    let diff_ids: Vec<_> = layers.iter().map(|(_, diff_id)| diff_id).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": vec![json!({}); layers.len()]});
    let descriptors: Vec<_> = layers.iter().map(|(bytes, _)| typed(blob(bytes), "layer.v1.tar+gzip")).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": typed(blob(config.to_string().as_bytes()), "config.v1+json"), "layers": descriptors});
    let mut manifest = typed(blob(manifest.to_string().as_bytes()), "manifest.v1+json");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "t"});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(path.join("index.json"), index.to_string()).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Unpacks with both and compares everything about every file; gives the number of files.
pub(crate) fn compare(layers: &[Layer]) -> usize {
    let scene = tempfile::tempdir().unwrap();
    let (image, bundle, root) = (scene.path().join("image"), scene.path().join("bundle"), scene.path().join("root"));
    layout(&image, layers);
    run(Command::new("umoci").arg("unpack").arg("--image").arg(format!("{}:t", image.display())).arg(&bundle));
    unpack_all(layers, &root, &UnpackOptions::default()).unwrap();
    let (ours, theirs) = (listing(&root), listing(&bundle.join("rootfs")));
    let other: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).take(10).collect();
    let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).take(10).collect();
    assert!(other.is_empty() && missing.is_empty(), "ours: {other:#?}\ntheirs: {missing:#?}");
    ours.len()
}

fn gzipped(tar: Tar) -> Layer {
    let (tar, diff_id) = plain(tar);
    (gzip(&tar), diff_id)
}

#[test]
fn hand_made_layers() {
    let mut setuid = header(FILE, 2);
    setuid.set_path("bin/su").unwrap();
    setuid.set_mode(0o4755);
    setuid.set_uid(1234);
    setuid.set_gid(4321);
    let below = Tar::of(&[
        (DIR, "./", ""),
        (DIR, "bin", ""),
        (DIR, "usr", ""),
        (DIR, "usr/lib", ""),
        (FILE, "usr/lib/a", "1"),
        (FILE, "usr/lib/gone", "1"),
        (SYM, "lib", "usr/lib"),
        (SYM, "abs", "/usr/lib"),
        (LINK, "usr/lib/b", "usr/lib/a"),
        (DIR, "opaque", ""),
        (FILE, "opaque/f", "1"),
        (DIR, "opaque/d", ""),
        (DIR, "gone", ""),
        (FILE, "gone/f", "1"),
        (DIR, "swap", ""),
        (FILE, "swap/f", "1"),
        (FILE, "pawn", "1"),
        (FIFO, "fifo", ""),
        (CHAR, "null", ""),
    ])
    .pax(&[("SCHILY.xattr.user.x", b"a\n\0"), ("mtime", b"1234.567890123")])
    .put(setuid, b"su")
    .pax(&[("mtime", b"1600000000.000000001"), ("SCHILY.xattr.user.y", b"1")])
    .row((DIR, "timed", ""))
    .pax(&[("mtime", b"1500000000.25"), ("uid", b"3000000000")])
    .row((SYM, "timed/link", "to"));
    let above = Tar::of(&[
        (FILE, "lib/new", "2"),
        (FILE, "abs/other", "2"),
        (FILE, "lib/.wh.gone", ""),
        (FILE, ".wh.gone", ""),
        (DIR, "opaque", ""),
        (FILE, "opaque/.wh..wh..opq", ""),
        (FILE, "opaque/g", "2"),
        (FILE, "swap", "now a file"),
        (DIR, "pawn", ""),
        (FILE, "pawn/f", "2"),
        (FILE, "timed/f", "2"),
        (LINK, "timed/h", "timed/f"),
    ])
    .pax(&[("mtime", b"1700000000.5"), ("SCHILY.xattr.user.z", b"2")])
    .row((DIR, "usr", ""));
    let top = Tar::of(&[(FILE, ".wh.fifo", ""), (FILE, "usr/lib/a", "3"), (DIR, "lib", ""), (FILE, "lib/x", "3")]);
    assert!(compare(&[gzipped(below), gzipped(above), gzipped(top)]) > 20);
}

/// A Debian, where the examples' base is in the cache, as our own packer writes it; otherwise this system's libraries.
#[test]
fn a_real_base() {
    let cache = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/ociforge-examples"));
    let base = cache.map(|cache| cache.join("debian-bookworm-python3.tar")).filter(|base| base.exists());
    let scratch = tempfile::tempdir().unwrap();
    let base = base.unwrap_or_else(|| {
        let tar = scratch.path().join("base.tar");
        run(Command::new("tar").arg("-cf").arg(&tar).args(["--format=posix", "-C", "/usr/lib", "python3", "systemd"]));
        tar
    });
    let tree = tar_source::read_tar(&base, &tar_source::TarOptions { scratch: scratch.path(), latest: None }).unwrap();
    let mut blob = Vec::new();
    let layer = pack(&tree, Compression::Gzip(1), 2, &mut blob).unwrap();
    let files = compare(&[(blob, layer.diff_id)]);
    assert!(files > 100, "{files}");
}
