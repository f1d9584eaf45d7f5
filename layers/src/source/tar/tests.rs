//! Archives by GNU tar and by the `tar` crate, whole and broken.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use ::tar::{Builder, EntryType, Header};

use super::*;
use crate::seeded_random::SeededRandom;

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
        NodeKind::File(Content::Slice { file, range }) => {
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

#[test]
fn owners_beyond_those_of_a_system_are_refused() {
    for (id, fits) in [(u64::from(u32::MAX) - 1, true), (u32::MAX.into(), false), (1 << 32, false), (1 << 40, false)] {
        for of_group in [false, true] {
            let mut header = header(FILE, 0);
            header.as_mut_bytes()[..1].copy_from_slice(b"f");
            if of_group {
                header.set_gid(id)
            } else {
                header.set_uid(id)
            }
            header.set_cksum();
            let mut build = Build::new(Vec::new());
            build.append(&header, &b""[..]).unwrap();
            match read(&build.into_inner().unwrap()) {
                Ok(_) => assert!(fits, "{id}"),
                Err(error) => {
                    assert!(!fits && matches!(error.cause, TarCause::Owner(at) if at == id), "{id}: {error}");
                    assert_eq!(error.hint(), Some("create the archive again without this entry"));
                }
            }
        }
    }
}

#[test]
fn every_kind_of_entry() {
    let bytes = archive(&[
        (DIR, "./", "", ""),
        (FILE, "./old-style/", "", ""),
        (FILE, "/abs//f", "", "text"),
        (EntryType::Continuous, "contiguous", "", "c"),
        (SYM, "s", "../x y", ""),
        (EntryType::Fifo, "fifo", "", ""),
        (EntryType::Char, "c", "", ""),
        (EntryType::Block, "b", "", ""),
    ]);
    let tree = read(&bytes).unwrap();
    let expected = [
        "/abs/f = text",
        "/b BlockDevice { major: 5, minor: 1 }",
        "/c CharDevice { major: 5, minor: 1 }",
        "/contiguous = c",
        "/fifo Fifo",
        "/old-style dir",
        "/s -> ../x y",
    ];
    assert_eq!(shown(&tree), expected);
    let Metadata { mode, uid, gid, mtime, .. } = tree.get(&"abs/f".parse().unwrap()).unwrap().metadata;
    assert_eq!((mode, uid, gid, mtime), (0o644, 7, 8, 1000));
    assert!(read(&[0; 1024]).unwrap().is_empty());
}

#[test]
fn the_later_entry_counts() {
    let replaced = [(FILE, "a", "", "1"), (DIR, "a", "", ""), (FILE, "a/b", "", "2"), (FILE, "a/b", "", "3")];
    assert_eq!(shown(&read(&archive(&replaced)).unwrap()), ["/a dir", "/a/b = 3"]);
    assert_eq!(shown(&read(&archive(&[(DIR, "a", "", ""), (FILE, "a", "", "1")])).unwrap()), ["/a = 1"]);
    for bad in [
        [(SYM, "a", "b", ""), (FILE, "a/x", "", "")],
        [(FILE, "a", "", ""), (FILE, "a/x", "", "")],
        [(FILE, "a/x", "", ""), (SYM, "a", "b", "")],
    ] {
        assert!(matches!(cause(&bad), TarCause::Tree(_)), "{bad:?}");
    }
}

#[test]
fn links_are_settled_whatever_the_order() {
    let file = (FILE, "m", "", "x");
    let expected = ["/a = x", "/m == /a", "/z == /a"];
    for order in [
        [file, (LINK, "a", "./m", ""), (LINK, "z", "/m", "")],
        [(LINK, "z", "a", ""), (LINK, "a", "m", ""), file],
        [(FILE, "z", "", "x"), (LINK, "m", "z", ""), (LINK, "a", "m", "")],
        [(LINK, "m", "z", ""), (LINK, "a", "m", ""), (FILE, "z", "", "x")],
    ] {
        assert_eq!(shown(&read(&archive(&order)).unwrap()), expected, "{order:?}");
    }
    let symlink = [(SYM, "s", "t", ""), (LINK, "l", "s", "")];
    assert_eq!(shown(&read(&archive(&symlink)).unwrap()), ["/l -> t", "/s -> t"]);
    // As `tar -r` leaves it: the links keep the file that they were made of.
    let appended = [file, (LINK, "a", "m", ""), (LINK, "b", "a", ""), (FILE, "m", "", "new")];
    assert_eq!(shown(&read(&archive(&appended)).unwrap()), ["/a = x", "/b == /a", "/m = new"]);
    let twice = [file, (LINK, "z", "m", ""), (FILE, "m", "", "new"), (LINK, "z", "m", "")];
    assert_eq!(shown(&read(&archive(&twice)).unwrap()), ["/m = new", "/z == /m"]);
    for bad in [
        vec![(LINK, "a", "none", "")],
        vec![(LINK, "a", "a", "")],
        vec![(LINK, "a", "b", ""), (LINK, "b", "c", ""), (LINK, "c", "b", "")],
        vec![(DIR, "d", "", ""), (LINK, "a", "d", "")],
    ] {
        assert!(matches!(cause(&bad), TarCause::Tree(TreeError::Dangling { .. })), "{bad:?}");
    }
}

#[test]
fn whiteouts() {
    let bytes = archive(&[
        (FILE, "d/.wh..wh..opq", "", ""),
        (DIR, "d", "", ""),
        (FILE, "e/.wh..wh..opq", "", ""),
        (FILE, "x/.wh.gone", "", ""),
        (FILE, ".wh.file", "", ""),
        (FILE, "file", "", "new"),
        (FILE, ".wh.dir", "", ""),
        (FILE, "dir/f", "", ""),
    ]);
    let expected = ["/d opaque", "/dir opaque", "/dir/f = ", "/e opaque", "/file = new", "/x/gone Whiteout"];
    assert_eq!(shown(&read(&bytes).unwrap()), expected);
    assert!(matches!(cause(&[(FILE, "a/.wh.", "", "")]), TarCause::Path(_)));
    assert!(matches!(cause(&[(FILE, "a/.wh..wh..opq", "", ""), (FILE, "a", "", "")]), TarCause::Tree(_)));
}

#[test]
fn names_and_links_that_no_layer_can_have() {
    for name in ["../a", "a/../b", "/.."] {
        assert!(matches!(cause(&[(FILE, name, "", "")]), TarCause::Path(PathError::Outside(_))), "{name}");
    }
    assert!(matches!(cause(&[(FILE, ".", "", "")]), TarCause::Path(_)));
    assert!(matches!(cause(&[(FILE, "a", "", ""), (LINK, "b", "../a", "")]), TarCause::Path(_)));
    assert!(matches!(cause(&[(SYM, "a", "", "")]), TarCause::Link));
    assert!(matches!(
        cause(&[(EntryType::new(b'V'), "a", "", "")]),
        TarCause::Malformed(Malformed::Unsupported { .. })
    ));
    let error = read(&archive(&[(FILE, "ok", "", ""), (FILE, "../a", "", "")])).unwrap_err();
    assert!(error.to_string().ends_with("a.tar, `../a` into a layer"), "{error}");
}

#[test]
fn pax_records() {
    let mut build = Build::new(Vec::new());
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let capability = b"\x01\0\0\x02\n\0=\n";
    let records: [(&str, &[u8]); 7] = [
        ("path", long.as_bytes()),
        ("mtime", b"-1.5"),
        ("uid", b"4294967294"),
        ("gid", b"3000000"),
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.user.x", b""),
        ("ctime", b"5"),
    ];
    build.append_pax_extensions(records).unwrap();
    add(&mut build, FILE, "short", "", "text");
    add(&mut build, FILE, "next", "", "");
    let tree = read(&build.into_inner().unwrap()).unwrap();
    let node = tree.get(&long.parse().unwrap()).unwrap();
    let Metadata { uid, gid, mtime, ref xattrs, .. } = node.metadata;
    assert_eq!((uid, gid, mtime, xattrs.len()), (4_294_967_294, 3_000_000, -2, 2));
    assert_eq!(xattrs[b"security.capability".as_slice()], capability);
    assert!(tree.get(&"next".parse().unwrap()).unwrap().metadata.xattrs.is_empty(), "records hold for one member");
    for bad in ["9 a=b\n", "6 a=b\n1", "5 ab=\n", "99 a=b\n", "0 ", "x a=b\n", "6 abc\n"] {
        let bytes = archive(&[(EntryType::XHeader, "x", "", bad), (FILE, "a", "", "")]);
        let cause = read(&bytes).unwrap_err().cause;
        assert!(matches!(cause, TarCause::Malformed(Malformed::Extension(0))), "{bad:?}: {cause}");
    }
    let global = |record| archive(&[(EntryType::XGlobalHeader, "g", "", record), (FILE, "a", "", "")]);
    assert_eq!(read(&global("14 comment=ab\n")).unwrap().len(), 1);
    assert!(matches!(
        read(&global("9 uid=10\n")).unwrap_err().cause,
        TarCause::Malformed(Malformed::Unsupported { .. })
    ));
}

#[test]
fn times_after_the_latest_become_it() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.tar");
    fs::write(&path, archive(&[(FILE, "a", "", "")])).unwrap();
    for (latest, mtime) in [(Some(999), 999), (Some(1001), 1000), (None, 1000)] {
        let tree = read_tar(&path, &TarOptions { scratch: scratch.path(), latest }).unwrap();
        assert_eq!(tree.get(&"a".parse().unwrap()).unwrap().metadata.mtime, mtime);
    }
}

fn gnu_tar(options: &[&str], out: &Path, source: &Path) {
    let mut tar = Command::new("tar");
    tar.args(options).arg("--sort=name").arg("-cf").arg(out).arg("-C").arg(source).arg(".");
    assert!(tar.status().unwrap().success(), "{options:?}");
}

/// What GNU tar writes in its formats, compressed and not, is read the same.
#[test]
fn archives_by_gnu_tar() {
    let root = tempfile::tempdir().unwrap();
    let (source, out) = (root.path().join("source"), root.path().join("a.tar"));
    let long = format!("long/{}/{}", "d".repeat(120), "f".repeat(120));
    fs::create_dir_all(source.join(&long).parent().unwrap()).unwrap();
    fs::write(source.join(&long), "text").unwrap();
    fs::hard_link(source.join(&long), source.join("link")).unwrap();
    fs::write(source.join(OsStr::from_bytes(b"\xff")), "bytes").unwrap();
    std::os::unix::fs::symlink("t".repeat(150), source.join("symlink")).unwrap();
    let holes = File::create(source.join("holes")).unwrap();
    let mut expected = vec![0; 3 << 20];
    for at in (0..12).map(|i| i * 250_000) {
        holes.write_all_at(b"island", at as u64).unwrap();
        expected[at..at + 6].copy_from_slice(b"island");
    }
    holes.set_len(expected.len() as u64).unwrap();

    let mut trees = Vec::new();
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix"],
        &["--format=posix", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
        &["--format=gnu", "--gzip"],
        &["--format=posix", "--zstd", "--sparse"],
        &["--format=gnu", "--xz"],
        &["--format=gnu", "--bzip2"],
    ] {
        gnu_tar(options, &out, &source);
        let tree = read_tar(&out, &TarOptions { scratch: root.path(), latest: Some(5) }).unwrap();
        let Some(NodeKind::File(Content::Slice { file, range })) =
            tree.get(&"holes".parse().unwrap()).map(|node| node.kind.clone())
        else {
            panic!("{options:?}")
        };
        assert!(file[range] == expected, "{options:?}");
        trees.push((
            options,
            format!("{:?}", tree.iter().map(|(p, n)| (p, &n.metadata)).collect::<Vec<_>>()),
            shown(&tree),
        ));
    }
    assert_eq!(trees[0].2.len(), 7);
    assert!(trees[0].2.contains(&format!("/{long} == /link")), "{:?}", trees[0].2);
    for tree in &trees {
        assert_eq!((&tree.1, &tree.2), (&trees[0].1, &trees[0].2), "{:?}", tree.0);
    }
}

#[test]
fn what_is_cut_off_or_damaged_or_no_archive() {
    let whole = archive(&[(FILE, "a", "", &"x".repeat(1000)), (FILE, "b", "", "")]);
    for cut in [0, 512, 600, 1511, 1536, 1600, 2048] {
        let cause = read(&whole[..cut]).unwrap_err().cause;
        assert!(matches!(cause, TarCause::Malformed(Malformed::CutOff(at)) if at == cut as u64), "{cut}: {cause}");
    }
    for short in [&whole[..511], b"text\n", b"PK\x05\x06"] {
        assert!(matches!(read(short).unwrap_err().cause, TarCause::Malformed(Malformed::NotTar)));
    }
    assert!(matches!(read(&[b'x'; 2048]).unwrap_err().cause, TarCause::Malformed(Malformed::NotTar)));
    let mut damaged = whole.clone();
    damaged[1536 + 100] ^= 1;
    assert!(matches!(read(&damaged).unwrap_err().cause, TarCause::Malformed(Malformed::Header(1536))));
    let zstd = zstd::encode_all(&whole[..], 1).unwrap();
    assert_eq!(read(&zstd).unwrap().len(), 2);
    assert!(matches!(read(&zstd[..zstd.len() - 3]).unwrap_err().cause, TarCause::Io(_)));
    let directory = tempfile::tempdir().unwrap();
    let error = read_tar(directory.path(), &TarOptions { scratch: directory.path(), latest: None }).unwrap_err();
    assert!(matches!(error.cause, TarCause::Io(_)), "a directory is no archive");
    let missing = Path::new("/nonexistent/a.tar");
    let error = read_tar(missing, &TarOptions { scratch: missing, latest: None }).unwrap_err();
    assert!(matches!(error.cause, TarCause::Io(_)));
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a");
    fs::write(&path, zstd).unwrap();
    let error = read_tar(&path, &TarOptions { scratch: missing, latest: None }).unwrap_err();
    assert!(matches!(error.cause, TarCause::Scratch { .. }));
}

/// Makes the checksums right again, so that damage is not found by them alone.
fn seal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|b| *b != 0)) {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
}

#[test]
fn broken_archives_never_panic() {
    let mut build = Build::new(Vec::new());
    build.append_pax_extensions([("path", b"p".as_slice()), ("size", b"4"), ("SCHILY.xattr.a", b"b\n")]).unwrap();
    add(&mut build, FILE, "f", "", "text");
    let map = [("GNU.sparse.major", b"1".as_slice()), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"900")];
    build.append_pax_extensions(map).unwrap();
    add(&mut build, FILE, "s", "", &format!("{:\0<512}{}", "1\n100\n4\n", "data"));
    add(&mut build, LINK, "l", "p", "");
    add(&mut build, EntryType::GNULongName, "@", "", &"n/".repeat(80));
    let mut sparse = header(EntryType::GNUSparse, 4);
    let fields = sparse.as_gnu_mut().unwrap();
    fields.sparse[0].set_offset(512);
    fields.sparse[0].set_length(4);
    fields.set_real_size(600);
    sparse.set_cksum();
    build.append(&sparse, b"data".as_slice()).unwrap();
    add(&mut build, FILE, "d/.wh.w", "", "");
    add(&mut build, FILE, "d/.wh..wh..opq", "", "");
    let whole = build.into_inner().unwrap();
    assert_eq!(read(&whole).unwrap().len(), 6);

    let mut seeded_random = SeededRandom::default();
    let interesting = [0, 1, b'/', b'.', b'0', b'7', b'9', b'=', b' ', b'\n', b'-', 0x7f, 0x80, 0xff];
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("a.tar");
    let read = |bytes: &[u8]| {
        // Some filesystems write a file that is overwritten to disk at once, but not a new one.
        let _ = fs::remove_file(&path);
        fs::write(&path, bytes).unwrap();
        read_tar(&path, &TarOptions { scratch: scratch.path(), latest: None })
    };
    let (mut read_well, rounds) = (0, 4000);
    for round in 0..rounds {
        let mut bytes = whole.clone();
        for _ in 0..=seeded_random.below(4) {
            let at = seeded_random.below(bytes.len());
            bytes[at] = match seeded_random.below(3) {
                0 => interesting[seeded_random.below(interesting.len())],
                1 => bytes[at].wrapping_add(1),
                _ => u8::try_from(seeded_random.below(256)).unwrap(),
            };
        }
        if round % 3 != 0 {
            seal(&mut bytes);
        }
        if round % 11 == 0 {
            bytes.truncate(seeded_random.below(bytes.len()));
        }
        read_well += u32::from(read(&bytes).is_ok());
    }
    assert!(read_well > 100 && read_well < rounds - 100, "{read_well} of {rounds} were read");
    for _ in 0..500 {
        let noise: Vec<u8> =
            (0..seeded_random.below(3000)).map(|_| u8::try_from(seeded_random.below(256)).unwrap()).collect();
        assert!(read(&noise).is_err());
    }
}
