//! Whole archives: those of GNU tar, and damaged ones.

use std::ffi::OsStr;
use std::process::Command;

use super::*;
use crate::seeded_random::SeededRandom;

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
        let Some(NodeKind::File(Content::Slice { file, range, .. })) =
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
