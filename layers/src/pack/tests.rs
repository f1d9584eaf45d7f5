use std::io::Read;

use super::*;
use crate::inflate::tests::deflated;
use crate::tree::{Content, Metadata, NodeKind, TreeNode};

fn path(name: &str) -> LayerPath {
    name.parse().unwrap()
}

fn insert(tree: &mut LayerTree, name: &str, kind: NodeKind) {
    tree.insert(path(name), TreeNode { metadata: Metadata::root(0o755, 7), kind }).unwrap();
}

/// One entry of every kind, and contents of every kind.
fn tree() -> LayerTree {
    let mut tree = LayerTree::new();
    let noise: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let text = b"so it goes ".repeat(50_000);
    insert(&mut tree, "a", NodeKind::Directory { opaque: true });
    insert(&mut tree, "a/0-link", NodeKind::Hardlink(path("a/deflated")));
    insert(&mut tree, "a/bytes", NodeKind::File(Content::Bytes(noise)));
    insert(&mut tree, "a/deflated", NodeKind::File(Content::Deflated(deflated(&text))));
    insert(&mut tree, "a/empty", NodeKind::File(Content::Bytes(vec![])));
    insert(&mut tree, "a/noise", NodeKind::File(Content::Bytes(incompressible::tests::noise(1_300_000))));
    insert(&mut tree, &format!("a/{}", "long/".repeat(40)), NodeKind::Symlink(b"../x".repeat(60)));
    insert(&mut tree, "dev", NodeKind::CharDevice { major: 1, minor: 3 });
    insert(&mut tree, "gone", NodeKind::Whiteout);
    insert(&mut tree, "pipe", NodeKind::Fifo);
    tree
}

fn packed(tree: &LayerTree, compression: Compression, threads: usize) -> (Vec<u8>, Layer) {
    let mut blob = Vec::new();
    let layer = pack(tree, compression, threads, &mut blob).unwrap();
    assert_eq!(layer.descriptor, Descriptor::of(compression.media_type(), &blob));
    (blob, layer)
}

#[test]
fn all_compressions_and_thread_counts_hold_the_same_tar() {
    let tree = tree();
    let (tar, plain) = packed(&tree, Compression::None, 1);
    assert_eq!(plain.diff_id.0, plain.descriptor.digest);
    for compression in [Compression::None, Compression::Gzip(1), Compression::default(), Compression::Zstd(3)] {
        let (blob, layer) = packed(&tree, compression, 1);
        for threads in [2, 3, 8] {
            assert!(packed(&tree, compression, threads) == (blob.clone(), layer.clone()));
        }
        let mut unpacked = Vec::new();
        match compression {
            Compression::None => unpacked = blob,
            Compression::Gzip(_) => {
                flate2::read::MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut unpacked).map(drop).unwrap();
            }
            Compression::Zstd(_) => unpacked = zstd::decode_all(blob.as_slice()).unwrap(),
        }
        assert!(unpacked == tar, "{compression:?}");
        assert_eq!((layer.diff_id, layer.uncompressed), (plain.diff_id.clone(), tar.len() as u64));
    }
}

#[test]
fn the_bytes_are_pinned() {
    let digests: Vec<_> = [Compression::None, Compression::default(), Compression::Zstd(3)]
        .map(|compression| packed(&tree(), compression, 2).1.descriptor.digest.short().to_owned())
        .into();
    assert_eq!(digests, ["1d84326d3ce4", "f4b643377df1", "6555eb4c0258"]);
}

#[test]
fn another_reader_finds_every_entry() {
    let (tar, _) = packed(&tree(), Compression::None, 1);
    let mut seen = Vec::new();
    for entry in tar::Archive::new(tar.as_slice()).entries().unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 7);
        seen.push((String::from_utf8(entry.path_bytes().into_owned()).unwrap(), entry.header().entry_type()));
    }
    use tar::EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let long = format!("a/{}", "long/".repeat(40));
    let expected = [
        ("a/", Directory),
        ("a/.wh..wh..opq", Regular),
        ("a/bytes", Regular),
        ("a/deflated", Regular),
        ("a/empty", Regular),
        (long.trim_end_matches('/'), Symlink),
        ("a/noise", Regular),
        ("dev", Char),
        (".wh.gone", Regular),
        ("pipe", Fifo),
        ("a/0-link", Link),
    ];
    assert_eq!(seen, expected.map(|(name, kind)| (name.to_owned(), kind)));
}

#[test]
fn numbers_and_attributes_that_ustar_has_no_room_for() {
    let mut tree = LayerTree::new();
    let xattrs = [(b"security.capability".to_vec(), b"\x01\0\0\x02\x03".to_vec())].into();
    let metadata = Metadata { mode: 0o4755, uid: 3_000_000, gid: 1 << 31, mtime: -1, xattrs };
    let kind = NodeKind::File(Content::Bytes(vec![b'x']));
    tree.insert(path("f"), TreeNode { metadata, kind }).unwrap();
    let (tar, _) = packed(&tree, Compression::None, 1);
    let mut archive = tar::Archive::new(tar.as_slice());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let records: Vec<_> = entry.pax_extensions().unwrap().unwrap().map(|r| r.unwrap()).collect();
    let value = |key: &str| records.iter().find(|r| r.key_bytes() == key.as_bytes()).unwrap().value_bytes().to_vec();
    assert_eq!(value("uid"), b"3000000");
    assert_eq!(value("gid"), b"2147483648");
    assert_eq!(value("mtime"), b"-1");
    assert_eq!(value("SCHILY.xattr.security.capability"), b"\x01\0\0\x02\x03");
    assert_eq!(entry.header().mode().unwrap(), 0o4755);
}

#[test]
fn content_that_is_not_as_the_tree_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("f");
    std::fs::write(&file, "12345").unwrap();
    for (kind, threads) in [
        (NodeKind::File(Content::Path { path: file.clone(), len: 4 }), 1),
        (NodeKind::File(Content::Path { path: file.clone(), len: 6 }), 2),
        (NodeKind::File(Content::Path { path: directory.path().join("none"), len: 0 }), 1),
        (NodeKind::File(Content::Deflated(crate::tree::DeflatedSlice { crc32: 1, ..deflated(b"x") })), 2),
    ] {
        let mut tree = LayerTree::new();
        insert(&mut tree, "f", kind);
        assert!(matches!(pack(&tree, Compression::default(), threads, Vec::new()), Err(PackError::Content { .. })));
    }
    let mut tree = LayerTree::new();
    insert(&mut tree, "l", NodeKind::Hardlink(path("none")));
    let error = pack(&tree, Compression::default(), 1, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "/l is a hard link to /none, which is not a file of the layer");
}

#[test]
fn a_full_disk_is_told() {
    struct Full(usize);
    impl io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for threads in [1, 2, 4] {
        let error = pack(&tree(), Compression::default(), threads, Full(10_000)).unwrap_err();
        assert!(matches!(error, PackError::Write(e) if e.kind() == io::ErrorKind::StorageFull), "{threads} threads");
    }
}

#[test]
fn content_has_the_hash_that_its_package_says() {
    use crate::tree::DeflatedSlice;
    let content = b"so it goes ".repeat(100_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &content).unwrap();
    let mapped = crate::MappedFile::open(file.path()).unwrap();
    let right: [u8; 32] = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&content)).into();
    for compression in [Compression::None, Compression::default(), Compression::Zstd(3)] {
        let packed = |sha256: Option<[u8; 32]>| {
            let mut tree = LayerTree::new();
            let slice = Content::Slice { file: mapped.clone(), range: 0..content.len(), sha256 };
            insert(&mut tree, "stored", NodeKind::File(slice));
            let slice = DeflatedSlice { sha256, ..deflated(&content) };
            insert(&mut tree, "zipped", NodeKind::File(Content::Deflated(slice)));
            pack(&tree, compression, 1, Vec::new())
        };
        assert_eq!(packed(Some(right)).unwrap(), packed(None).unwrap());
        let error = packed(Some([0; 32])).unwrap_err();
        assert!(
            matches!(&error, PackError::Content { source, .. } if source.to_string().contains("RECORD")),
            "{error:?}"
        );
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let tree = |len: usize| {
        std::fs::write(&path, vec![7; len]).unwrap();
        let file = crate::MappedFile::open(&path).unwrap();
        let mut tree = LayerTree::new();
        insert(&mut tree, "f", NodeKind::File(Content::Slice { file, range: 0..len, sha256: None }));
        tree
    };
    let changes: [&dyn Fn(); 2] = [
        // It ends before most of its pages.
        &|| std::fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap(),
        &|| std::fs::write(&path, vec![8; 3 << 20]).unwrap(),
    ];
    for change in changes {
        let tree = tree(3 << 20);
        // The clock of file times has a resolution of some milliseconds.
        std::thread::sleep(std::time::Duration::from_millis(15));
        change();
        let error = pack(&tree, Compression::default(), 2, Vec::new()).unwrap_err();
        let PackError::Content { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().ends_with("changed while it was read"), "{source}");
    }
    // A file that another one replaced, and one that was removed.
    let tree = tree(100_000);
    std::fs::write(directory.path().join("new"), "new").unwrap();
    std::fs::rename(directory.path().join("new"), &path).unwrap();
    pack(&tree, Compression::default(), 1, Vec::new()).unwrap();
    std::fs::remove_file(&path).unwrap();
    pack(&tree, Compression::default(), 1, Vec::new()).unwrap();
}
