//! Layers upon layers.

use super::*;

fn image(layers: &[&[Row<'_>]]) -> (Scene, PathBuf) {
    let scene = Scene::new();
    let root = scene.path("root");
    let layers: Vec<_> = layers.iter().map(|rows| plain(Tar::of(rows))).collect();
    unpack_all(&layers, &root, &UnpackOptions::default()).unwrap();
    scene.check("the image");
    (scene, root)
}

#[test]
fn upper_layers_hide_and_replace() {
    let below: &[Row<'_>] = &[
        (DIR, "usr/lib", ""),
        (FILE, "usr/lib/old", "1"),
        (SYM, "lib", "usr/lib"),
        (FILE, "gone/f", "1"),
        (FILE, "opaque/f", "1"),
        (FILE, "file", "1"),
        (DIR, "dir", ""),
        (FILE, "dir/f", "1"),
        (SYM, "link", "dir"),
        (FILE, "kept/f", "1"),
    ];
    let usual = ["lib->usr/lib", "usr/", "usr/lib/", "usr/lib/old=1"];
    let rest =
        ["dir/", "dir/f=1", "file=1", "gone/", "gone/f=1", "kept/", "kept/f=1", "link->dir", "opaque/", "opaque/f=1"];
    type Case<'a> = (&'a str, &'a [Row<'a>], &'a [&'a str], &'a [&'a str]);
    // What the layer takes away and adds.
    let cases: &[Case<'_>] = &[
        ("nothing", &[], &[], &[]),
        ("a whiteout", &[(FILE, ".wh.gone", "")], &["gone/", "gone/f=1"], &[]),
        ("a whiteout of nothing", &[(FILE, "no/where/.wh.gone", "")], &[], &[]),
        ("a whiteout below a file", &[(FILE, "file/.wh.gone", "")], &[], &[]),
        (
            "a whiteout of its own file",
            &[(FILE, "gone", "2"), (FILE, ".wh.gone", "")],
            &["gone/", "gone/f=1"],
            &["gone=2"],
        ),
        (
            "a whiteout of its own directory",
            &[(FILE, ".wh.gone", ""), (FILE, "gone/g", "2")],
            &["gone/f=1"],
            &["gone/g=2"],
        ),
        ("opaque", &[(FILE, "opaque/g", "2"), (FILE, "opaque/.wh..wh..opq", "")], &["opaque/f=1"], &["opaque/g=2"]),
        ("opaque without entries", &[(FILE, "opaque/.wh..wh..opq", "")], &["opaque/f=1"], &[]),
        ("opaque through a link", &[(FILE, "link/.wh..wh..opq", "")], &["dir/f=1"], &[]),
        ("a file over a directory", &[(FILE, "dir", "2")], &["dir/", "dir/f=1"], &["dir=2"]),
        ("a link over a directory", &[(SYM, "dir", "kept")], &["dir/", "dir/f=1"], &["dir->kept"]),
        ("a directory over a file", &[(DIR, "file", ""), (FILE, "file/f", "2")], &["file=1"], &["file/", "file/f=2"]),
        (
            "a directory over a link",
            &[(DIR, "link", ""), (FILE, "link/f", "2")],
            &["link->dir"],
            &["link/", "link/f=2"],
        ),
        ("through a link", &[(FILE, "lib/new", "2")], &[], &["usr/lib/new=2"]),
        (
            "a directory through a link",
            &[(DIR, "lib/d", ""), (FILE, "lib/d/f", "2")],
            &[],
            &["usr/lib/d/", "usr/lib/d/f=2"],
        ),
        ("a whiteout through a link", &[(FILE, "lib/.wh.old", "")], &["usr/lib/old=1"], &[]),
        (
            "a link replaced",
            &[(SYM, "link", "kept"), (FILE, "link/f", "2")],
            &["kept/f=1", "link->dir"],
            &["kept/f=2", "link->kept"],
        ),
        ("a whole new tree", &[(FILE, "new/a/b", "2")], &[], &["new/", "new/a/", "new/a/b=2"]),
    ];
    for (name, layer, without, with) in cases {
        let (_scene, root) = image(&[below, layer]);
        let mut expected: Vec<String> = usual.iter().chain(&rest).map(|line| (*line).to_owned()).collect();
        expected.retain(|line| !without.contains(&line.as_str()));
        expected.extend(with.iter().map(|line| (*line).to_owned()));
        expected.sort();
        assert_eq!(shown(&root), expected, "{name}");
    }
}

#[test]
fn directories_keep_what_only_passes_by() {
    let mut header = header(DIR, 0);
    header.set_path("d").unwrap();
    header.set_mode(0o700);
    header.set_uid(5);
    header.set_mtime(77);
    let below = Tar::default()
        .row((DIR, "./", ""))
        .pax(&[("SCHILY.xattr.user.a", b"1"), ("SCHILY.xattr.user.c", b"1")])
        .put(header.clone(), b"")
        .row((FILE, "d/f", "1"));
    let above = Tar::of(&[(FILE, "d/g", "2"), (FILE, "d/.wh.f", "")]);
    header.set_mode(0o711);
    header.set_mtime(99);
    let named = Tar::default()
        .pax(&[("SCHILY.xattr.user.b", b"2"), ("SCHILY.xattr.user.c", b"2")])
        .put(header, b"")
        .row((FILE, "d/f", "2"));
    let scene = Scene::new();
    let unpack = |layers: [Tar; 2]| {
        let root = scene.path("root");
        unpack_all(&layers.map(plain), &root, &UnpackOptions::default()).unwrap();
        let lines = listing(&root)[..2].to_vec();
        fs::remove_dir_all(root).unwrap();
        lines
    };
    let root = ". 40755 0:0 1000000.000000000 ";
    assert_eq!(unpack([below.clone(), above]), [root, "d 40700 5:0 77.000000000 user.a=1 user.c=1 "]);
    assert_eq!(unpack([below, named]), [root, "d 40711 5:0 99.000000000 user.b=2 user.c=2 "]);
}

/// Without privileges: owners that cannot be kept, and directories that even their owner may not write.
#[test]
fn as_nobody() {
    let mut owned = header(FILE, 1);
    owned.set_path("ro/owned").unwrap();
    owned.set_uid(1234);
    owned.set_mode(0o4755);
    let read_only = |name: &str| {
        let mut directory = header(DIR, 0);
        directory.set_path(name).unwrap();
        directory.set_mode(0o555);
        directory
    };
    let below = Tar::default().put(read_only("ro"), b"").put(owned, b"1").put(read_only("ro/sub"), b"");
    let below = below.row((FILE, "ro/sub/gone", "")).row((FILE, "ro/sub/f", "")).row((CHAR, "null", ""));
    let below = plain(below.put(read_only("ro/away"), b"").row((FILE, "ro/away/f", "")));
    let above = Tar::default().row((FILE, "ro/sub/.wh.gone", "")).row((FILE, "ro/.wh.away", ""));
    let above = above.row((FILE, "ro/new", "2")).put(read_only("ro/moved"), b"").row((FILE, "ro/moved/f", "2"));

    let scene = Scene::new();
    std::os::unix::fs::chown(scene.directory.path(), Some(65534), Some(65534)).unwrap();
    let (root, strict) = (scene.path("root"), scene.path("strict"));
    let kept = UnpackOptions { owners: OwnerPolicy::KeptWherePossible, ..UnpackOptions::default() };
    // Credentials are a thread's own until the C library says otherwise.
    let nobody = rustix::fs::Uid::from_raw(65534);
    let (unpacked, refused) = thread::scope(|scope| {
        let unprivileged = scope.spawn(|| {
            rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(65534)).unwrap();
            rustix::thread::set_thread_uid(nobody).unwrap();
            let refused = unpack_all(std::slice::from_ref(&below), &strict, &UnpackOptions::default()).unwrap_err();
            (unpack_all(&[below, plain(above)], &root, &kept).unwrap(), refused)
        });
        unprivileged.join().unwrap()
    });
    assert!(refused.hint().is_some_and(|hint| hint.contains("rootless")), "{refused:?}");
    assert_eq!((unpacked[0].skipped_devices, unpacked[0].unkept_owners > 5), (1, true), "{unpacked:?}");
    assert_eq!(shown(&root), ["ro/", "ro/moved/", "ro/moved/f=2", "ro/new=2", "ro/owned=1", "ro/sub/", "ro/sub/f="]);
    let lines = listing(&root);
    for (name, mode) in [("ro", "40555"), ("ro/sub", "40555"), ("ro/moved", "40555"), ("ro/owned", "104755")] {
        assert!(
            lines.iter().any(|line| line.starts_with(&format!("{name} {mode} 65534:65534 "))),
            "{name}: {lines:#?}"
        );
    }
}

#[test]
fn owners_are_remembered() {
    let owned = |kind, name: &str, uid: u32| {
        let mut header = header(kind, 0);
        header.set_path(name).unwrap();
        header.set_uid(uid.into());
        header.set_gid(50);
        header.set_mode(0o2755);
        header
    };
    let mut root_null = header(CHAR, 0);
    root_null.set_path("null").unwrap();
    root_null.set_mode(0o620);
    let mut link = owned(SYM, "link", 7);
    link.set_link_name("x").unwrap();
    let below = Tar::default()
        .put(owned(DIR, "d", 33), b"")
        .put(owned(DIR, "named", 33), b"")
        .put(owned(FILE, "d/f", 1000), b"")
        .pax(&[("SCHILY.xattr.user.ociforge.owner", b"6:6"), ("SCHILY.xattr.user.x", b"1")])
        .row((FILE, "roots", ""))
        .pax(&[("SCHILY.xattr.user.ociforge.owner", b"6:6")])
        .row((DIR, "foreign", ""))
        .put(root_null, b"")
        .put(owned(CHAR, "tty", 9), b"")
        .put(link, b"")
        .row((FIFO, "fifo", ""))
        .row((SYM, "rootlink", "y"));
    let above = Tar::of(&[(FILE, "d/new", "")]).put(owned(DIR, "named", 44), b"").row((FILE, "d/sub/g", ""));
    let top = Tar::of(&[(DIR, "named", "")]);
    let scene = Scene::new();
    std::os::unix::fs::chown(scene.directory.path(), Some(65534), Some(65534)).unwrap();
    let (root, layer) = (scene.path("root"), scene.path("layer"));
    let options = UnpackOptions { owners: OwnerPolicy::Remembered, ..UnpackOptions::default() };
    let (above_tar, below_root) = (above.clone().end(), root.clone());
    let unpacked = thread::scope(|scope| {
        let unprivileged = scope.spawn(|| {
            rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(65534)).unwrap();
            rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(65534)).unwrap();
            let unpacked = unpack_all(&[plain(below)], &root, &options).unwrap();
            fs::create_dir(&layer).unwrap();
            let above = unpack(&above_tar, &layer, &options).unwrap();
            rebase::rebase(&layer, &above, &[below_root], XattrSpace::User).unwrap();
            let second = scene.path("second");
            fs::create_dir(&second).unwrap();
            for tar in [above_tar.clone(), top.end()] {
                let staging = tempfile::tempdir_in(scene.directory.path()).unwrap();
                let unpacked = unpack(&tar, staging.path(), &options).unwrap();
                merge(staging.path(), &unpacked, &second).unwrap();
            }
            unpacked
        });
        unprivileged.join().unwrap()
    });
    assert_eq!((unpacked[0].skipped_devices, unpacked[0].unkept_owners), (0, 1), "the link's alone: {unpacked:?}");
    let remembered = |root: &Path| -> Vec<String> {
        let all = listing(root).into_iter().filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            let (_, owner) = rest.split_once("user.ociforge.owner=")?;
            Some(format!("{name} {} {}", rest.split(' ').next()?, owner.split(' ').next()?))
        });
        all.collect()
    };
    let expected =
        ["d 42755 33:50", "d/f 102755 1000:50", "named 42755 33:50", "null 100620 0:0:c:1:3", "tty 102755 9:50:c:1:3"];
    assert_eq!(remembered(&root), expected);
    assert_eq!(remembered(&layer), ["d 42755 33:50", "named 42755 44:50"], "an implied directory is the one below");
    assert_eq!(remembered(&scene.path("second")), [""; 0], "root's directory takes the place of another's");
}
