//! The installed form of a wheel.

use super::*;

#[test]
fn the_installed_form() {
    let wheel = open(sound()).unwrap();
    assert_eq!((wheel.name(), wheel.version(), wheel.requires_python()), ("foo-bar", "1.0.0", Some(">=3.8")));
    wheel.verify().unwrap();
    let tree = install(&wheel).unwrap();
    let listed: Vec<_> = tree.iter().map(|(path, node)| format!("{path} {:o}", node.metadata.mode)).collect();
    let site = "/opt/lib/python3.11/site-packages";
    let expected = [
        "/opt/bin/foo 755".to_owned(),
        format!("{site}/foo 755"),
        format!("{site}/foo/__init__.py 644"),
        format!("{site}/foo/tool 755"),
        format!("{site}/{INFO} 755"),
        format!("{site}/{INFO}/INSTALLER 644"),
        format!("{site}/{INFO}/METADATA 644"),
        format!("{site}/{INFO}/RECORD 644"),
        format!("{site}/{INFO}/REQUESTED 644"),
        format!("{site}/{INFO}/WHEEL 644"),
        format!("{site}/{INFO}/entry_points.txt 644"),
    ];
    assert_eq!(listed, expected);
    assert!(tree.iter().all(|(_, node)| node.metadata.mtime == 7 && node.metadata.uid == 0));
    assert!(text(&tree, "opt/bin/foo").starts_with("#!/opt/bin/python3\n# -*- coding"));
    assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/foo/__init__.py"), "print('hello')\n");
    let record = text(&tree, &format!("{}/{INFO}/RECORD", &site[1..]));
    assert!(record.starts_with("../../../bin/foo,sha256=") && record.contains(&format!("\r\n{INFO}/RECORD,,\r\n")));
    assert!(record.contains("REQUESTED,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\r\n"), "{record}");
}

#[test]
fn members_pass_through_as_they_are() {
    let tree = install(&open(sound()).unwrap()).unwrap();
    let deflated = tree.iter().filter(|(_, n)| matches!(&n.kind, NodeKind::File(Content::Deflated(_)))).count();
    let slices = tree.iter().filter(|(_, n)| matches!(&n.kind, NodeKind::File(Content::Slice { .. }))).count();
    assert_eq!((deflated, slices), (4, 1));
}

#[test]
fn data_is_spread() {
    let mut entries = sound();
    for (name, data) in [
        ("data/share/foo/x", &b"x"[..]),
        ("headers/foo.h", b"h"),
        ("purelib/p.py", b"p"),
        ("platlib/q.so", b"q"),
        ("scripts/run", b"#!pythonw -u\nprint()\n"),
        ("scripts/as-is", b"#!/bin/sh\n"),
        ("scripts/foo", b"#!python\nthe installer's takes its place\n"),
        ("scripts/only", b"#!python"),
    ] {
        entries.push(entry(&format!("foo_bar-1.0.data/{name}"), data));
    }
    let tree = install(&open(entries).unwrap()).unwrap();
    for (path, content) in [
        ("opt/share/foo/x", "x"),
        ("opt/include/python3.11/foo-bar/foo.h", "h"),
        ("opt/lib/python3.11/site-packages/p.py", "p"),
        ("opt/lib/python3.11/site-packages/q.so", "q"),
        ("opt/bin/run", "#!/opt/bin/python3\nprint()\n"),
        ("opt/bin/as-is", "#!/bin/sh\n"),
        ("opt/bin/only", "#!/opt/bin/python3\n"),
    ] {
        assert_eq!(text(&tree, path), content);
    }
    let directories = tree.iter().filter(|(_, node)| matches!(node.kind, NodeKind::Directory { .. }));
    let directories: Vec<_> = directories.map(|(path, _)| path.to_string()).collect();
    assert_eq!(directories[..2], ["/opt/include/python3.11/foo-bar", "/opt/lib/python3.11/site-packages/foo"]);
    assert_eq!(directories[3..], ["/opt/share/foo"]);
    let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
    let row = Record::parse(&record).rows.into_iter().find(|row| row.path == b"../../../bin/run").unwrap();
    assert_eq!(row, RecordRow::of(row.path.clone(), b"#!/opt/bin/python3\nprint()\n"));
    assert!(record.contains("\r\nfoo_bar-1.0.data/scripts/foo,sha256="));
    assert!(record.contains("\r\n../../../share/foo/x,sha256="));
}

#[test]
fn the_files_are_listed_without_installing() {
    let mut entries = sound();
    for name in ["data/share/foo/x", "headers/foo.h", "scripts/foo", "scripts/run"] {
        entries.push(entry(&format!("foo_bar-1.0.data/{name}"), b"#!python\n"));
    }
    entries.push(entry(&format!("{INFO}/RECORD"), record(&entries).as_bytes()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stored");
    std::fs::write(&path, zip(&entries)).unwrap();
    let tree = install(&Wheel::open_as(&path, FILE).unwrap()).unwrap();
    let made = |path: &LayerPath| [&b"INSTALLER"[..], b"REQUESTED"].contains(&path.file_name());
    let installed = tree.iter().filter(|(path, node)| matches!(node.kind, NodeKind::File(_)) && !made(path));
    let mut listed = installed_files(&path, FILE, &scheme()).unwrap();
    listed.sort();
    assert_eq!(listed, installed.map(|(path, _)| path.clone()).collect::<Vec<_>>());
}

#[test]
fn only_a_wheels_own_metadata_is_listed_from() {
    let mut entries = sound();
    entries.insert(0, entry("foo/_vendor/x-1.dist-info/entry_points.txt", b"[console_scripts]\nvendored = x:y"));
    let listed = |entries: &[Entry]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stored");
        std::fs::write(&path, zip(entries)).unwrap();
        installed_files(&path, FILE, &scheme()).map_err(|error| error.fault.to_string())
    };
    assert!(listed(&entries).unwrap().iter().all(|path| path.file_name() != b"vendored"));
    entries.push(entry(&format!("{INFO}/entry_points.txt"), b"\xff"));
    assert!(listed(&entries).unwrap_err().ends_with("entry_points.txt` is not UTF-8 text"));
}

#[test]
fn names_are_read_as_pip_joins_them() {
    let tree = install(&with(entry("./c.py", b"c")).unwrap()).unwrap();
    assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/c.py"), "c");
    let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
    assert!(record.contains(&format!("\r\nc.py,{},1\r\n", hash(b"c"))), "{record}");
    let tree = install(&with(entry("d\\e.py", b"d")).unwrap()).unwrap();
    assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/d\\e.py"), "d");
    refused!(with(entry("./foo/__init__.py", b"another")), WheelFault::Twice(_));
}

#[test]
fn of_two_members_for_one_place_the_last_to_be_put_there_counts() {
    // The order in the archive does not count.
    for (data, content) in [("purelib/foo/tool", "data"), ("platlib/foo/tool", "other")] {
        let wheel = with(entry(&format!("foo_bar-1.0.data/{data}"), content.as_bytes())).unwrap();
        assert_eq!(wheel.verify().unwrap(), None);
        let tree = install(&wheel).unwrap();
        assert_eq!(text(&tree, "opt/lib/python3.11/site-packages/foo/tool"), content);
        let record = text(&tree, &format!("opt/lib/python3.11/site-packages/{INFO}/RECORD"));
        let rows: Vec<_> = record.lines().filter(|row| row.starts_with("foo/tool,")).collect();
        assert_eq!(rows, [format!("foo/tool,{},{}", hash(content.as_bytes()), content.len())], "{record}");
    }
    let two = [entry("foo_bar-1.0.data/scripts/x", b"script"), entry("foo_bar-1.0.data/data/bin/x", b"data")];
    let tree = install(&open(two.into_iter().chain(sound()).collect()).unwrap()).unwrap();
    assert_eq!(text(&tree, "opt/bin/x"), "script");
}

#[test]
fn what_can_not_be_installed() {
    let installed = |entry| install(&with(entry).unwrap());
    refused!(installed(entry("foo_bar-1.0.data/etc/x", b"")), WheelFault::DataDirectory(_));
    refused!(installed(entry("foo_bar-1.0.data/x", b"")), WheelFault::DataDirectory(_));
    refused!(installed(entry("foo_bar-1.0.data/platlib/foo", b"")), WheelFault::Collision(_) | WheelFault::Tree(_));
    refused!(installed(entry("foo/tool/x", b"")), WheelFault::Tree(_));
    for name in ["../../x", ".wh.bash", "a/.wh..wh..opq"] {
        let mut entries = sound();
        let text = format!("[console_scripts]\n{name} = foo:main\n");
        entries[5] = entry(&format!("{INFO}/entry_points.txt"), text.as_bytes());
        refused!(install(&open(entries).unwrap()), WheelFault::EntryPoint { .. });
    }
}
