use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use futures_util::StreamExt;
use ociforge_manifests::media_type;
use serde_json::json;
use tar::EntryType;

use super::*;
use crate::content::read_document;
use crate::error::Explain;
use crate::store::{Layout, layout::REF_NAME};

/// A layout with an image of two layers called `a`, and the descriptor of its manifest.
fn layout(directory: &Path) -> (Layout, Descriptor) {
    let layout = Layout::create(directory.join("layout")).unwrap();
    let put = |media_type: &str, bytes: &[u8]| {
        layout.put(bytes).unwrap();
        Descriptor::of(media_type, bytes)
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": put(media_type::CONFIG, b"{}"),
        "layers": [put(media_type::LAYER_TAR, b"one"), put(media_type::LAYER_TAR, &[7; 700_000])],
    });
    let mut entry = put(media_type::MANIFEST, manifest.to_string().as_bytes());
    entry.annotations.insert(REF_NAME.into(), "a".into());
    layout.edit_index(|manifests| manifests.push(entry.clone())).unwrap();
    (layout, entry)
}

#[tokio::test]
async fn what_was_written_is_read_and_is_the_same_every_time() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let files = ["1.tar", "2.tar"].map(|name| directory.path().join(name));
    for file in &files {
        write_archive(&layout, std::slice::from_ref(&image), file, &()).unwrap();
    }
    assert_eq!(fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());

    let archive = Archive::open(&files[0]).unwrap();
    assert_eq!(archive.find(Some("a")).unwrap(), image);
    assert_eq!(archive.find(None).unwrap(), image);
    assert!(archive.find(Some("b")).is_err());
    let bytes = read_document(&archive, &image).await.unwrap();
    let manifest = Document::<ociforge_manifests::graph::Manifest>::parse(bytes).unwrap();
    for layer in &manifest.layers {
        assert_eq!(archive.blob_size(&layer.digest), Some(layer.size));
        read_document(&archive, layer).await.unwrap();
    }
    let rest: Vec<_> = archive.fetch(&manifest.layers[0], 1).await.unwrap().collect().await;
    assert_eq!(rest[0].as_ref().unwrap().as_ref(), b"ne");
    assert!(archive.fetch(&Descriptor::of("", b"unknown"), 0).await.is_err());
}

#[tokio::test]
async fn what_is_compressed_as_a_whole_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let file = directory.path().join("a.tar");
    write_archive(&layout, std::slice::from_ref(&image), &file, &()).unwrap();
    let archive = open_bytes(&zstd::encode_all(fs::read(&file).unwrap().as_slice(), 1).unwrap()).unwrap();
    assert_eq!(archive.find(Some("a")).unwrap(), image);
    assert_eq!(read_document(&archive, &Descriptor::of("", &[7; 700_000])).await.unwrap(), vec![7; 700_000]);
}

#[test]
fn a_damaged_or_missing_blob_leaves_no_archive() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let file = directory.path().join("new.tar");
    let blob = layout.blob_path(&Digest::of(b"one"));
    fs::write(&blob, b"two").unwrap();
    let error = write_archive(&layout, std::slice::from_ref(&image), &file, &()).unwrap_err();
    assert!(matches!(error.cause, Cause::WrongDigest { .. }), "{error:?}");
    fs::remove_file(&blob).unwrap();
    assert!(write_archive(&layout, &[image], &file, &()).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn an_existing_archive_stays_when_a_new_one_fails() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let file = directory.path().join("a.tar");
    write_archive(&layout, std::slice::from_ref(&image), &file, &()).unwrap();
    let before = fs::read(&file).unwrap();
    fs::remove_file(layout.blob_path(&Digest::of(b"one"))).unwrap();
    assert!(write_archive(&layout, &[image], &file, &()).is_err());
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn a_pipe_is_written_to_and_a_link_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let [pipe, link, file] = ["pipe", "link", "file"].map(|name| directory.path().join(name));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read(pipe).unwrap()
    });
    write_archive(&layout, std::slice::from_ref(&image), &pipe, &()).unwrap();
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    write_archive(&layout, &[image], &link, &()).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&file).unwrap(), reader.join().unwrap());
}

/// Opens a tar file of these entries: kind, name, content.
fn open(entries: &[(EntryType, &str, &[u8])]) -> Result<Archive, ContentError> {
    let mut tar = tar::Builder::new(Vec::new());
    for (kind, name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        // Written by hand: the crate refuses the names that are tested here.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    open_bytes(&tar.into_inner().unwrap())
}

fn open_bytes(bytes: &[u8]) -> Result<Archive, ContentError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("archive.tar");
    fs::write(&file, bytes).unwrap();
    Archive::open(file)
}

const FILE: EntryType = EntryType::Regular;
const INDEX: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

#[test]
fn names_may_begin_with_a_dot_and_other_files_are_left_alone() {
    let archive = open(&[
        (EntryType::Directory, "./", b""),
        (FILE, "./oci-layout", b"{}"),
        (FILE, "./index.json", INDEX),
        (FILE, "./blobs/sha256/README", b"hello"),
        (FILE, "./.lock", b""),
    ]);
    assert!(archive.unwrap().blobs.is_empty());
}

#[test]
fn hostile_and_damaged_archives_are_refused() {
    let whole = [(FILE, "oci-layout", b"{}".as_slice()), (FILE, "index.json", INDEX)];
    let (link, hard) = (EntryType::Symlink, EntryType::Link);
    let cases: [(&str, &[u8], EntryType, &str); 8] = [
        ("../escape", b"", FILE, "points out"),
        ("/etc/passwd", b"", FILE, "points out"),
        ("blobs/../../x", b"", FILE, "points out"),
        ("blobs/sha256/link", b"", link, "a symbolic link"),
        ("blobs/sha256/link", b"", hard, "a hard link"),
        ("dev", b"", EntryType::Char, "a device"),
        ("index.json", b"{}", FILE, "twice"),
        ("./index.json", b"{}", FILE, "twice"),
    ];
    assert!(open(&whole).is_ok());
    for (name, content, kind, expected) in cases {
        let error = open(&[whole[0], whole[1], (kind, name, content)]).unwrap_err();
        assert!(error.cause.to_string().contains(expected), "{name}: {}", error.cause);
    }
    let error = open(&[whole[0], (FILE, "index.json", b"[]")]).unwrap_err();
    assert!(matches!(error.cause, Cause::Document(_)));
}

#[test]
fn what_is_no_archive_is_said_to_be_none() {
    let docker = open(&[(FILE, "manifest.json", b"[]")]).unwrap_err();
    assert!(docker.hint().unwrap().contains("docker-archive"));
    let cut = open_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00").unwrap_err();
    assert!(cut.cause.to_string().contains("cannot be decompressed") && cut.hint().unwrap().contains("again"));
    for other in [b"".as_slice(), b"hello", &[0; 2048], &[b'x'; 4096]] {
        assert!(open_bytes(other).is_err());
    }
    assert!(Archive::open("/nonexistent").is_err());
}

#[test]
fn a_cut_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let file = directory.path().join("a.tar");
    write_archive(&layout, &[image], &file, &()).unwrap();
    let whole = fs::read(&file).unwrap();
    for length in [600, 5000, 300_000] {
        assert!(open_bytes(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_sha512_blob_has_a_long_name() {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path().join("layout")).unwrap();
    let digest = {
        use sha2::Digest as _;
        Digest::from_sha512(&sha2::Sha512::digest(b"long").into())
    };
    fs::create_dir_all(layout.blob_path(&digest).parent().unwrap()).unwrap();
    fs::write(layout.blob_path(&digest), b"long").unwrap();
    let file = directory.path().join("a.tar");
    write_archive(&layout, &[Descriptor::new("text/plain", digest.clone(), 4)], &file, &()).unwrap();
    assert_eq!(Archive::open(file).unwrap().blob_size(&digest), Some(4));
}

/// An archive of the system's tar, made by `script` in a directory that has a layout in `layout`.
fn by_tar(script: &str) -> Result<Archive, ContentError> {
    let directory = tempfile::tempdir().unwrap();
    let (_, image) = layout(directory.path());
    assert_eq!(image.size, fs::metadata(blob(directory.path(), &image.digest)).unwrap().len());
    let shell = std::process::Command::new("sh").args(["-ec", script]).current_dir(directory.path()).status();
    assert!(shell.unwrap().success());
    Archive::open(directory.path().join("a.tar"))
}

fn blob(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("layout/blobs/sha256").join(digest.hex())
}

#[tokio::test]
async fn archives_of_other_programs_are_read() {
    for format in ["gnu", "pax", "ustar", "oldgnu"] {
        let archive = by_tar(&format!("tar --format={format} -C layout -cf a.tar .")).unwrap();
        let image = archive.find(Some("a")).unwrap();
        let manifest = read_document(&archive, &image).await.unwrap();
        let manifest = Document::<ociforge_manifests::graph::Manifest>::parse(manifest).unwrap();
        for layer in &manifest.layers {
            read_document(&archive, layer).await.unwrap();
        }
    }
    // Names that do not fit into a header, by either format's way of writing them.
    for format in ["gnu", "pax"] {
        let long = "x".repeat(120);
        let script = format!("cd layout; mkdir {long}; echo > {long}/{long}; tar --format={format} -cf ../a.tar *");
        assert!(by_tar(&script).unwrap().find(Some("a")).is_ok());
    }
}

#[test]
fn what_tar_can_hide_is_found() {
    let cases = [
        ("ln -s /etc/passwd layout/blobs/sha256/x; tar -C layout -cf a.tar .", "symbolic link"),
        ("ln layout/index.json layout/second; tar -C layout -cf a.tar .", "hard link"),
        ("truncate -s 9M layout/sparse; tar -S --format=gnu -C layout -cf a.tar .", "sparse"),
        ("truncate -s 9M layout/sparse; tar -S --format=pax -C layout -cf a.tar .", "sparse"),
        ("cd layout; tar --transform='s,^oci-layout$,../oci-layout,' -Pcf ../a.tar *", "points out"),
        ("cd layout; tar --format=pax --transform=\"s,^oci-layout$,/$(printf %0120d),\" -Pcf ../a.tar *", "points out"),
        ("cd layout; tar -cf ../a.tar *; tar -rf ../a.tar blobs", "twice"),
        ("truncate -s 65M layout/index.json; tar -C layout -cf a.tar .", "the limit is"),
    ];
    for (script, expected) in cases {
        let error = by_tar(script).err().ok_or(script).unwrap();
        assert!(error.cause.to_string().contains(expected), "{script}: {}", error.cause);
    }
}

#[test]
fn wherever_a_file_is_cut_off_it_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let file = directory.path().join("a.tar");
    write_archive(&layout, &[image], &file, &()).unwrap();
    let whole = fs::read(&file).unwrap();
    let cut = directory.path().join("cut.tar");
    fs::write(&cut, &whole).unwrap();
    let cut_file = File::options().write(true).open(&cut).unwrap();
    // Of two blocks of zeroes at the end one is enough.
    let lengths = (0..whole.len() - 512).rev().filter(|at| at % 509 == 0 || (at + 1) % 512 <= 2);
    for length in lengths {
        cut_file.set_len(length as u64).unwrap();
        assert!(Archive::open(&cut).is_err(), "{length}");
    }
}

#[test]
fn headers_that_lie_are_errors() {
    let huge = |size: u64| {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(FILE);
        header.set_size(size);
        tar.append_data(&mut header, "index.json", io::empty()).unwrap();
        tar.into_inner().unwrap()
    };
    for size in [1 << 20, 1 << 40, u64::MAX / 2, u64::MAX - 512, u64::MAX] {
        assert!(open_bytes(&huge(size)).is_err(), "{size}");
    }
    // Entries for what else is to be known of the next one would have to be read into memory.
    for kind in [b'L', b'x', b'g'] {
        let mut bytes = huge(1 << 30);
        bytes[156] = kind;
        let mut header = tar::Header::from_byte_slice(&bytes[..512]).clone();
        header.set_cksum();
        bytes[..512].copy_from_slice(header.as_bytes());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar");
        fs::write(&path, &bytes[..512]).unwrap();
        // It has no end: the file is as long as that says, of holes.
        File::options().write(true).open(&path).unwrap().set_len(1 << 31).unwrap();
        let error = Archive::open(&path).unwrap_err().cause.to_string();
        assert!(kind == b'g' || error.contains("more than 1 MiB"), "{error}");
    }
}

#[test]
fn any_byte_may_be_wrong_without_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let (layout, image) = layout(directory.path());
    let file = directory.path().join("a.tar");
    write_archive(&layout, &[image], &file, &()).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let file = File::options().write(true).open(&file).unwrap();
    for at in (0..4096).step_by(7) {
        let old = std::mem::replace(&mut bytes[at], if at % 2 == 0 { 0xff } else { 0 });
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
        let _ = Archive::open(directory.path().join("a.tar"));
        bytes[at] = old;
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
}
