//! Hostile layers of one tar each.

use super::*;

pub(super) fn names() -> Vec<Case> {
    let long = "d/".repeat(2500) + "f";
    let deep = "d/".repeat(300) + "f";
    let component = "x".repeat(4096);
    vec![
        case("an absolute name", &[(FILE, "/canary/file", "evil")], Safe(&["canary/", "canary/file=evil"])),
        case("two slashes", &[(FILE, "//canary//file", "evil")], Safe(&["canary/", "canary/file=evil"])),
        case("a parent", &[(FILE, "../canary/file", "evil")], Refused("has a component `..`")),
        case(
            "a parent inside",
            &[(DIR, "a", ""), (FILE, "a/../../canary/file", "evil")],
            Refused("has a component `..`"),
        ),
        case("an absolute parent", &[(FILE, "/../canary/file", "evil")], Refused("has a component `..`")),
        case("a parent at the end", &[(DIR, "a/..", "")], Refused("has a component `..`")),
        case("the parent as a directory", &[(DIR, "..", "")], Refused("has a component `..`")),
        case("a NUL in the name", &[(FILE, "a\0../../canary/file", "evil")], Refused("has a NUL byte")),
        case("a long component", &[(FILE, &component, "")], Refused("more than 255 bytes")),
        case("a long path", &[(FILE, &long, "")], Refused("more than 4096 bytes")),
        case("a deep path", &[(FILE, &deep, "")], Refused("256 directories")),
        case(
            "a file for the root",
            &[(FILE, "./", "evil"), (FILE, ".", "evil")],
            Refused("the root must be a directory"),
        ),
        case("an empty name", &[(FILE, "", "evil")], Refused("the root must be a directory")),
        case("a link for the root", &[(SYM, ".", "../canary")], Refused("the root must be a directory")),
        case("a hard link for the root", &[(LINK, "/", "a")], Refused("the root must be a directory")),
        case("the root itself", &[(DIR, "./", ""), (DIR, "", ""), (FILE, "a", "1")], Safe(&["a=1"])),
        case("a whiteout of nothing", &[(FILE, "a/.wh.", "")], Refused("is not a valid file name")),
        case("a whiteout of the directory", &[(FILE, "a/.wh..", "")], Refused("is not a valid file name")),
        case("a whiteout of the parent", &[(FILE, ".wh...", "")], Refused("has a component `..`")),
    ]
}

pub(super) fn links() -> Vec<Case> {
    let zigzag = "a/../".repeat(400) + "a";
    vec![
        case(
            "through an absolute link",
            &[(SYM, "l", "/canary"), (FILE, "l/file", "evil")],
            Safe(&["canary/", "canary/file=evil", "l->/canary"]),
        ),
        case(
            "through a link to the parent",
            &[(SYM, "l", "../canary"), (FILE, "l/file", "evil")],
            Safe(&["canary/", "canary/file=evil", "l->../canary"]),
        ),
        case(
            "through many parents",
            &[(DIR, "a", ""), (SYM, "a/l", "../../../../../../canary/sub"), (FILE, "a/l/file", "evil")],
            Safe(&["a/", "a/l->../../../../../../canary/sub", "canary/", "canary/sub/", "canary/sub/file=evil"]),
        ),
        case(
            "through links to links",
            &[(SYM, "a", ".."), (SYM, "b", "a/canary"), (DIR, "b/sub", ""), (FILE, "b/file", "evil")],
            Safe(&["a->..", "b->a/canary", "canary/", "canary/file=evil", "canary/sub/"]),
        ),
        case(
            "through the process's own links",
            &[(SYM, "l", "/proc/self/cwd"), (FILE, "l/x", "1")],
            Safe(&["l->/proc/self/cwd", "proc/", "proc/self/", "proc/self/cwd/", "proc/self/cwd/x=1"]),
        ),
        case("a loop", &[(SYM, "a", "b"), (SYM, "b", "a"), (FILE, "a/f", "")], Refused("loop of symbolic links")),
        case("a link to itself", &[(SYM, "a", "a"), (FILE, "a/f", "")], Refused("loop of symbolic links")),
        case("a growing loop", &[(SYM, "a", "a/a"), (FILE, "a/f", "")], Refused("loop of symbolic links")),
        case(
            "a long way through links",
            &[(DIR, "a", ""), (SYM, "z", &zigzag), (SYM, "y", "z/../z/../z/../z/../z/../z"), (FILE, "y/f", "")],
            Refused("more than 4096 bytes"),
        ),
        case(
            "a directory where a link is",
            &[(SYM, "l", "../canary"), (DIR, "l", ""), (FILE, "l/file", "mine")],
            Safe(&["l/", "l/file=mine"]),
        ),
        case(
            "a link where a directory is",
            &[(DIR, "d", ""), (FILE, "d/f", "1"), (SYM, "d", "../canary"), (FILE, "d/file", "evil")],
            Safe(&["canary/", "canary/file=evil", "d->../canary"]),
        ),
        case("a file where a link is", &[(SYM, "l", "../canary/file"), (FILE, "l", "mine")], Safe(&["l=mine"])),
        case("a device where a link is", &[(SYM, "l", "../canary/file"), (FIFO, "l", "")], Safe(&["l?"])),
        case("a hard link outside", &[(LINK, "h", "../canary/file")], Refused("has a component `..`")),
        case(
            "an absolute hard link",
            &[(LINK, "h", "/canary/file"), (FILE, "h", "evil")],
            Refused("is not an earlier entry"),
        ),
        case(
            "a hard link through a link",
            &[(SYM, "l", "../canary"), (LINK, "h", "l/file"), (FILE, "h", "evil")],
            Refused("is not an earlier entry"),
        ),
        case(
            "a hard link to a link, written through",
            &[(SYM, "l", "../canary/file"), (LINK, "h", "l"), (FILE, "h", "evil")],
            Safe(&["h=evil", "l->../canary/file"]),
        ),
        case("a hard link before its target", &[(LINK, "h", "f"), (FILE, "f", "")], Refused("is not an earlier entry")),
        case("a hard link to a directory", &[(DIR, "d", ""), (LINK, "h", "d")], Refused("which is a directory")),
        case("a hard link to the root", &[(LINK, "h", "/")], Refused("which is a directory")),
        case("a hard link without target", &[(LINK, "h", "")], Refused("which is a directory")),
        case("a hard link to itself", &[(FILE, "f", ""), (LINK, "f", "./f")], Refused("to itself")),
        case(
            "a hard link to itself through a link",
            &[(DIR, "d", ""), (FILE, "d/f", ""), (SYM, "l", "d"), (LINK, "l/f", "d/f")],
            Refused("to itself"),
        ),
        case("a hard link in the place of its target", &[(FILE, "d/f", ""), (LINK, "d", "d/f")], Refused("hard link")),
        case("a symbolic link to nothing", &[(SYM, "l", "")], Refused("target is empty")),
        case("a symbolic link with a NUL", &[(SYM, "l", "a\0b")], Refused("NUL")),
        case("a symbolic link that is too long", &[(SYM, "l", &"x".repeat(5000))], Refused("create the symbolic link")),
        case(
            "a whiteout through a link",
            &[(SYM, "l", "../canary"), (FILE, "l/.wh.file", ""), (FILE, "l/.wh..wh..opq", "")],
            Safe(&["l->../canary"]),
        ),
    ]
}

pub(super) fn contradictions() -> Vec<Case> {
    vec![
        case("a file above a file", &[(FILE, "a", ""), (FILE, "a/b", "")], Refused("/a is not a directory")),
        case("a device above a file", &[(CHAR, "a", ""), (FILE, "a/b/c", "")], Refused("/a is not a directory")),
        case(
            "a link to a file above",
            &[(FILE, "f", ""), (SYM, "l", "f"), (FILE, "l/b", "")],
            Refused("/f is not a dir"),
        ),
        case("a file above a whiteout", &[(FILE, "a", ""), (FILE, "a/.wh.b", "")], Refused("/a is not a directory")),
        case("one path twice", &[(FILE, "a", "long text"), (FILE, "a", "2")], Safe(&["a=2"])),
        case(
            "a hard link written through",
            &[(FILE, "a", "1"), (LINK, "b", "a"), (FILE, "b", "2")],
            Safe(&["a=1", "b=2"]),
        ),
        case(
            "a file for a full directory",
            &[(DIR, "d", ""), (FILE, "d/e/f", "1"), (FILE, "d", "2"), (FILE, "d0", "3")],
            Safe(&["d0=3", "d=2"]),
        ),
        case("and a directory again", &[(FILE, "d/e/f", "1"), (FILE, "d", "2"), (DIR, "d", "")], Safe(&["d/"])),
        case(
            "the way there replaced while it is known",
            &[(FILE, "a/b/f", "1"), (SYM, "a", "../canary"), (FILE, "a/b/f", "2")],
            Safe(&["a->../canary", "canary/", "canary/b/", "canary/b/f=2"]),
        ),
        case("an overlay whiteout by its looks", &[(CHAR, "null", "")], Safe(&["null?"])),
        made(
            "a whiteout of overlayfs",
            {
                let mut device = header(CHAR, 0);
                device.set_path("gone").unwrap();
                device.set_device_major(0).unwrap();
                device.set_device_minor(0).unwrap();
                Tar::default().row((FILE, "gone", "1")).put(device, b"")
            },
            Safe(&[]),
        ),
    ]
}

pub(super) fn damage() -> Vec<Case> {
    let sound = Tar::of(&[(FILE, "a", "text"), (FILE, "b", &"y".repeat(600))]).end();
    let huge = |size: u64| {
        let mut file = header(FILE, size);
        file.set_path("huge").unwrap();
        Tar::default().put(file, b"little")
    };
    let sized = |kind| {
        let mut link = header(kind, 1 << 30);
        link.set_path("l").unwrap();
        link.set_link_name("a").unwrap();
        Tar::of(&[(FILE, "a", "1")]).put(link, b"").row((FILE, "b", "2"))
    };
    let sparse = |len: &'static str, map: &'static str, body: &[u8]| {
        let mut file = header(FILE, body.len() as u64);
        file.set_path("sparse").unwrap();
        let records = [("GNU.sparse.realsize", len.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        Tar::default().pax(&records).put(file, body)
    };
    let flipped = |at: usize| {
        let mut tar = sound.clone();
        tar[at] ^= 1;
        tar
    };
    let bodies = &["a=1", "b=2", "l->a"];
    vec![
        Case { name: "cut off in a body", tar: sound[..1600].to_vec(), outcome: Refused("truncated at byte 1600") },
        Case { name: "cut off in a header", tar: sound[..1100].to_vec(), outcome: Refused("truncated at byte 1100") },
        Case { name: "a wrong checksum", tar: flipped(1024), outcome: Refused("header at byte 1024 is damaged") },
        Case { name: "no tar", tar: vec![b'x'; 4096], outcome: Refused("not a tar archive") },
        Case { name: "half a gzip", tar: gzip(&sound)[..60].to_vec(), outcome: Refused("cannot read the layer") },
        Case {
            name: "what only begins like zstd",
            tar: b"\x28\xb5\x2f\xfd no".to_vec(),
            outcome: Refused("cannot read"),
        },
        made("a huge size", huge(0o77_777_777_777), Refused("truncated at byte 2048")),
        made("the largest size", huge(i64::MAX as u64), Refused("truncated at byte 2048")),
        made("a size beyond the largest", huge(u64::MAX), Refused("header at byte 0 is damaged")),
        made(
            "a size that is no number",
            Tar::default().pax(&[("size", b"-1")]).row((FILE, "a", "")),
            Refused("extended"),
        ),
        made("a symbolic link with a body", sized(SYM), Safe(bodies)),
        made("an endless name", Tar::default().put(header(EntryType::GNULongName, 1 << 40), b""), Refused("1 MiB")),
        made("endless records", Tar::default().put(header(EntryType::XHeader, 1 << 40), b""), Refused("1 MiB")),
        made(
            "broken records",
            Tar::default().put(header(EntryType::XHeader, 9), b"99 a=b\n__"),
            Refused("extended header"),
        ),
        made("an unknown type", Tar::default().put(header(EntryType::new(b'V'), 0), b""), Refused("type `V`")),
        made(
            "global names",
            Tar::default().put(header(EntryType::XGlobalHeader, 14), b"14 path=../xx\n"),
            Refused("global header"),
        ),
        made("a huge sparse file", sparse("9223372036854775807", "0,1", b"x"), Refused("set its length")),
        made("a sparse file that overlaps", sparse("100", "0,9,5,1", b"0123456789"), Refused("sparse file")),
        made("a sparse file beyond its end", sparse("5", "0,10", b"0123456789"), Refused("sparse file")),
        made(
            "a sparse file past all numbers",
            sparse("5", "18446744073709551615,10", b"0123456789"),
            Refused("sparse"),
        ),
        made("a sparse file with too little", sparse("500", "0,100", b"0123456789"), Refused("sparse file")),
    ]
}

pub(super) fn metadata() -> Vec<Case> {
    let with = |records: &[(&str, &[u8])]| Tar::default().pax(records).row((FILE, "f", "1"));
    let name = "SCHILY.xattr.user.".to_owned() + &"n".repeat(300);
    let large = vec![b'v'; 100_000];
    let mut no_numbers = Header::new_old();
    no_numbers.set_entry_type(CHAR);
    no_numbers.set_path("dev").unwrap();
    let fine = &["f=1"];
    vec![
        made("a time before 1970", with(&[("mtime", b"-99999999999.999999999")]), Safe(fine)),
        made("a time in another age", with(&[("mtime", b"9223372036854775807")]), Safe(fine)),
        made("a time beyond all ages", with(&[("mtime", b"99999999999999999999")]), Refused("extended header")),
        made("a time that is no number", with(&[("mtime", b"now")]), Refused("extended header")),
        made("an owner beyond all", with(&[("uid", b"4294967295")]), Refused("4294967295")),
        made("a group beyond all", with(&[("gid", b"99999999999")]), Refused("99999999999")),
        made("a negative owner", with(&[("uid", b"-1")]), Refused("extended header")),
        made("an attribute with a long name", with(&[(&name, b"v")]), Refused("is invalid")),
        made("an attribute without a name", with(&[("SCHILY.xattr.", b"v")]), Refused("is invalid")),
        made("an attribute with a NUL", with(&[("SCHILY.xattr.user.a\0b", b"v")]), Refused("is invalid")),
        made("an attribute of no class", with(&[("SCHILY.xattr.nonsense", b"v")]), Safe(fine)),
        made("a large attribute", with(&[("SCHILY.xattr.user.a", &large)]), Refused("extended attributes")),
        made("a device without numbers", Tar::default().put(no_numbers, b""), Refused("device without a number")),
    ]
}
