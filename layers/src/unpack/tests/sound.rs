//! What one sound layer becomes.

use super::*;

fn line(lines: &[String], name: &str) -> String {
    let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name} in {lines:#?}")).to_owned()
}

#[test]
fn everything_that_a_file_has() {
    let mut large = header(DIR, 0);
    large.set_path("large").unwrap();
    large.set_uid(1 << 31);
    large.set_gid(3_000_000);
    large.set_mode(0o1777);
    let mut setuid = header(FILE, 2);
    setuid.set_path("large/setuid").unwrap();
    setuid.set_uid(1000);
    setuid.set_mode(0o6755);
    // cap_net_raw=ep, version 2.
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::default()
        .row((DIR, "./", ""))
        .put(large, b"")
        .pax(&[("SCHILY.xattr.security.capability", capability), ("SCHILY.xattr.user.b", b"a\n=\0b")])
        .put(setuid, b"su")
        .pax(&[("mtime", b"-1.25")])
        .row((FILE, "large/before", ""))
        .pax(&[("uid", b"4000000000"), ("mtime", b"5.000000001")])
        .row((SYM, "large/link", "no where"))
        .row((LINK, "hard", "large/setuid"))
        .row((LINK, "hardlink", "large/link"))
        .row((FIFO, "fifo", ""))
        .row((CHAR, "null", ""))
        .row((FILE, "implied/a", ""))
        .row((FILE, "readonly/a", ""))
        .pax(&[("mtime", b"7.5")])
        .row((DIR, "readonly", ""))
        .end();
    let scene = Scene::new();
    let into = scene.empty("into");
    let unpacked = unpack(&tar, &into, &UnpackOptions::default()).unwrap();
    assert_eq!((unpacked.files, unpacked.bytes, unpacked.unkept_xattrs), (4, 2, 0));
    assert_eq!(unpacked.implied, ["implied".parse().unwrap()]);
    let lines = listing(&into);
    assert_eq!(line(&lines, "."), "40755 0:0 1000000.000000000 ");
    assert_eq!(line(&lines, "large"), "41777 2147483648:3000000 1000000.000000000 ");
    let setuid = line(&lines, "large/setuid");
    assert!(setuid.starts_with("106755 1000:0 1000000.000000000 security.capability=\\x01\\x00\\x00\\x02"), "{setuid}");
    assert!(setuid.ends_with(" user.b=a\\n=\\x00b = hard su"), "{setuid}");
    assert_eq!(line(&lines, "large/before"), "100644 0:0 -2.750000000 ");
    assert_eq!(line(&lines, "large/link"), "120777 4000000000:0 5.000000001 = hardlink -> no where");
    assert_eq!(line(&lines, "fifo"), "10644 0:0 1000000.000000000 ");
    assert_eq!(line(&lines, "null"), "20644 0:0 1000000.000000000 device 0x103 c");
    assert_eq!(line(&lines, "implied"), "40755 0:0 0.000000000 ");
    assert_eq!(line(&lines, "readonly"), "40755 0:0 7.500000000 ");
}

#[test]
fn all_compressions_and_what_is_verified() {
    let tar = Tar::of(&[(FILE, "a", &"text".repeat(200_000)), (FILE, "b", "")]).end();
    // What follows the end mark belongs to the layer.
    let tar = [tar, vec![0; 9000]].concat();
    let (front, back) = tar.split_at(1000);
    let blobs = [tar.clone(), [gzip(front), gzip(back)].concat(), zstd::encode_all(&tar[..], 1).unwrap()];
    let scene = Scene::new();
    for (n, blob) in blobs.iter().enumerate() {
        let other = Some("digest of the uncompressed content is");
        let cases = [(diff_id(&tar), None), (diff_id(b"x"), other), (diff_id(&tar[..tar.len() - 9000]), other)];
        for (m, (expected, error)) in cases.iter().enumerate() {
            let into = scene.empty("into");
            let result = unpack_layer(&blob[..], expected, &into, &UnpackOptions::default());
            match (error, result) {
                (None, Ok(unpacked)) => assert_eq!((unpacked.files, unpacked.bytes), (2, 800_000)),
                (Some(text), Err(error)) => {
                    let told = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
                    assert!(told.contains(text), "{n} {m}: {told}");
                }
                (expected, result) => panic!("{n} {m}: {expected:?}, but {result:?}"),
            }
            fs::remove_dir_all(into).unwrap();
        }
    }
}

#[test]
fn whiteouts_are_listed_where_they_are_meant() {
    let tar = Tar::of(&[
        (FILE, "d/own", "1"),
        (FILE, "d/.wh.own", ""),
        (FILE, "d/.wh.other", ""),
        (FILE, "e/.wh..wh..opq", ""),
        (FILE, "e/f", "2"),
        (SYM, "l", "d"),
        (FILE, "l/.wh.through", ""),
        (SYM, "out", "/usr/../x/y"),
        (FILE, "out/z/.wh..wh..opq", ""),
        (FILE, ".wh.top", ""),
    ])
    .end();
    let scene = Scene::new();
    let into = scene.empty("into");
    let unpacked = unpack(&tar, &into, &UnpackOptions::default()).unwrap();
    let paths = |paths: &[&str]| paths.iter().map(|path| path.parse().unwrap()).collect::<Vec<LayerPath>>();
    assert_eq!(unpacked.whiteouts, paths(&["d/other", "d/own", "d/through", "top"]));
    assert_eq!(unpacked.opaque, paths(&["e", "x/y/z"]));
    assert_eq!(unpacked.implied, paths(&["", "d", "e"]));
    assert_eq!(shown(&into), ["d/", "d/own=1", "e/", "e/f=2", "l->d", "out->/usr/../x/y"]);
}

/// Every way in which GNU tar writes holes, and one in which it writes none.
#[test]
fn sparse_files_by_gnu_tar() {
    let scene = Scene::new();
    let source = scene.empty("root");
    let long = "n".repeat(150);
    // More stretches than a header has room for, and holes at the beginning, at the end, and from one to the other.
    for (name, islands) in [("many", 60), ("begin", 1), ("none", 0), (&long, 4)] {
        let file = fs::File::create(source.join(name)).unwrap();
        for at in (0..islands).map(|n| 65_536 * (n + u64::from(name == "begin"))) {
            std::os::unix::fs::FileExt::write_all_at(&file, b"island", at).unwrap();
        }
        file.set_len(5 << 20).unwrap();
    }
    fs::write(source.join("beside"), "whole").unwrap();
    let wanted = listing(&source);
    for options in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=posix", "--sparse"],
        &["--format=posix", "--sparse", "--sparse-version=0.0"],
        &["--format=posix", "--sparse", "--sparse-version=0.1"],
        &["--format=posix", "--sparse", "--sparse-version=1.0"],
    ] {
        let out = scene.path("staging");
        run(Command::new("tar").args(options).arg("-cf").arg(&out).arg("-C").arg(&source).arg("."));
        let tar = fs::read(&out).unwrap();
        let into = scene.empty("into");
        unpack(&tar, &into, &UnpackOptions::default()).unwrap();
        // The GNU format has whole seconds only.
        let cut = |lines: &[String]| -> Vec<String> {
            let words = lines.iter().map(|line| (line.split(' ').next(), line.rsplit(' ').next()));
            words.map(|(name, content)| format!("{} {}", name.unwrap(), content.unwrap())).collect()
        };
        assert_eq!(cut(&listing(&into)), cut(&wanted), "{options:?}");
        for name in ["many", "begin", "none", &long] {
            let blocks = fs::metadata(into.join(name)).unwrap().blocks();
            assert_eq!(blocks < 1000, options.contains(&"--sparse"), "{options:?}: {blocks} blocks of {name}");
        }
        fs::remove_dir_all(into).unwrap();
        fs::remove_file(out).unwrap();
    }
}

#[test]
fn a_directory_that_is_not_empty_and_a_caller_that_stops() {
    let tar = Tar::of(&[(FILE, "a", "1")]).end();
    let scene = Scene::new();
    let error = unpack(&tar, &scene.path("canary"), &UnpackOptions::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Directory { .. }));
    scene.check("a full directory");
    let error = unpack(&tar, &scene.path("none"), &UnpackOptions::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Directory { .. }));
    let into = scene.empty("into");
    let options = UnpackOptions { cancelled: &|| true, ..UnpackOptions::default() };
    assert!(matches!(unpack(&tar, &into, &options), Err(UnpackError::Cancelled)));
}

#[test]
fn devices_that_are_not_wanted_are_counted() {
    let tar = Tar::of(&[(FILE, "null", "earlier"), (CHAR, "null", ""), (FIFO, "fifo", "")]).end();
    let scene = Scene::new();
    let into = scene.empty("into");
    let unpacked = unpack(&tar, &into, &UnpackOptions { devices: false, ..UnpackOptions::default() }).unwrap();
    assert_eq!((unpacked.skipped_devices, shown(&into)), (1, vec!["fifo?".to_owned()]));
}

#[test]
fn more_directories_than_memory_are_refused() {
    let value = vec![b'v'; 60_000];
    let tar = (0..1200)
        .fold(Tar::default(), |tar, n| tar.pax(&[("SCHILY.xattr.user.v", &value)]).row((DIR, &format!("d{n}"), "")));
    let tar = tar.end();
    let scene = Scene::new();
    let error = unpack(&tar, &scene.empty("into"), &UnpackOptions::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Entry { fault: UnpackFault::TooMuch, .. }), "{error:?}");
}
