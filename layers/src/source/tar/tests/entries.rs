//! Single entries: kinds, names, owners, times, links, whiteouts and pax records.

use super::*;

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
