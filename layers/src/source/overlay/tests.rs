//! Real overlay mounts, which take root.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::super::capture::tests::{LATEST, Stage, lines, set, shell};
use super::*;
use crate::owner::OwnershipTable;
use crate::seeded_random::SeededRandom;
use crate::tree::{Content, Metadata, NodeKind};
use crate::unpack::tests::run;

const BOTH: [XattrSpace; 2] = [XattrSpace::Trusted, XattrSpace::User];

fn base(root: &Path) {
    let script = "
        mkdir -p etc/sub usr/lib var/gone/deep var/again var/file-to-be
        echo 1 > etc/one; echo 2 > etc/two; echo 3 > etc/sub/three; echo 4 > var/gone/deep/four
        echo 5 > var/again/five; echo 6 > var/file-to-be/six; echo 7 > directory-to-be
        ln etc/one etc/uno; ln -s usr/lib lib; chmod 1777 var; chown 7:8 usr";
    shell(root, script);
    set(root, &[("usr/lib", "user.a", "b")]);
}

#[test]
fn what_is_added_changed_and_removed() {
    for space in BOTH {
        let stage = Stage::new(base);
        let taken = stage.overlaid(space, |root| {
            let script = "
                echo more >> etc/two; rm -r var/gone; rm -r var/again; mkdir var/again; echo new > var/again/new
                rm -r var/file-to-be; echo file > var/file-to-be; rm directory-to-be; mkdir directory-to-be
                mkdir -p new/er; echo x > new/er/file; rm lib; mkdir lib; echo y > lib/z
                echo three > usr/lib/only-time; chmod 700 etc/sub; rm etc/sub/three
                echo tmp > var/tmp; rm var/tmp";
            shell(root, script);
        });
        let expected = [
            "directory-to-be directory",
            "etc directory",
            "etc/sub directory",
            "etc/sub/three gone",
            "etc/two file 7",
            "lib directory",
            "lib/z file 2",
            "new directory",
            "new/er directory",
            "new/er/file file 2",
            "usr directory",
            "usr/lib directory",
            "usr/lib/only-time file 6",
            "var directory",
            "var/again opaque",
            "var/again/new file 4",
            "var/file-to-be file 5",
            "var/gone gone",
        ];
        assert_eq!(lines(&taken.tree), expected, "{space:?}");
        stage.check(&taken, "overlay");
        assert!(taken.tree.iter().all(|(_, node)| node.metadata.mtime <= LATEST));
        let kept = fs::metadata(stage.path("upper/etc/two")).unwrap().modified().unwrap();
        assert_eq!(kept.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos(), 1_000_000_000 * LATEST as u128);
    }
}

#[test]
fn all_that_a_file_can_have() {
    let stage = Stage::new(base);
    let taken = stage.overlaid(XattrSpace::Trusted, |root| {
        let script = "
            cp /bin/true cap; echo x > acl; chmod 4755 acl; mkdir setgid; chown 33:44 setgid; chmod 2775 setgid
            echo hidden > none; chown 1000:2000 none; chmod 0000 none
            chown 12:13 etc/one; ln etc/one z; ln -s 'a
            b' sym; ln sym sym2; chown -h 5:6 sym; mkfifo fifo; chown 9:9 fifo; mknod null c 1 3; mknod disk b 8 1
            touch -d @5.75 acl; chown 3000000:4000000000 fifo";
        shell(root, script);
        let capability = "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        // Of user 7, besides the three that the mode has.
        let list = "\x02\0\0\0\x01\0\x07\0\x7f\x7f\x7f\x7f\x02\0\x07\0\x07\0\0\0\x04\0\x05\0\x7f\x7f\x7f\x7f\x10\0\x07\0\x7f\x7f\x7f\x7f\x20\0\x05\0\x7f\x7f\x7f\x7f";
        let list: Vec<u8> = list.bytes().map(|byte| if byte == 0x7f { 0xff } else { byte }).collect();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(root.join("acl"), "system.posix_acl_access", &list, flags).unwrap();
        set(root, &[("cap", "security.capability", capability), ("acl", "user.b", "\n=\0b"), ("setgid", "user.d", "e")]);
        set(root, &[("acl", "trusted.mine", "1"), ("sym", "trusted.link", "2")]);
        let long = "n".repeat(255);
        fs::write(root.join(&long), "long").unwrap();
        fs::write(root.join(OsStr::from_bytes(b"\xff\xfe \n\\")), "bytes").unwrap();
        fs::set_permissions(root.join(&long), fs::Permissions::from_mode(0o6711)).unwrap();
        drop(UnixListener::bind(root.join("socket")).unwrap());
        fs::remove_file(root.join("etc/sub/three")).unwrap();
        drop(UnixListener::bind(root.join("etc/sub/three")).unwrap());
        // So the view before and after is the same.
        fs::remove_file(root.join("socket")).unwrap();
        fs::remove_file(root.join("etc/sub/three")).unwrap();
    });
    stage.check(&taken, "overlay");
    let tree = lines(&taken.tree);
    for line in ["cap file 35664", "sym2 = sym", "z = etc/one", "null c 1:3", "disk b 8:1", "fifo fifo"] {
        let name = line.split(' ').next().unwrap();
        assert!(tree.iter().any(|found| found.starts_with(name)), "{line} in {tree:#?}");
    }
    let cap = &taken.tree.get(&"cap".parse().unwrap()).unwrap().metadata.xattrs;
    assert_eq!(cap[b"security.capability".as_slice()].len(), 20, "version 2");
}

#[test]
fn sockets_are_in_no_layer_and_hide_what_was_there() {
    let stage = Stage::new(base);
    let bind = |root: &Path| {
        fs::remove_file(root.join("etc/two")).unwrap();
        for name in ["etc/two", "socket"] {
            drop(UnixListener::bind(root.join(name)).unwrap());
        }
    };
    let taken = stage.overlaid(XattrSpace::Trusted, bind);
    assert_eq!(lines(&taken.tree), ["etc directory", "etc/two gone"]);
    assert!(!stage.path("upper/socket").exists());
    assert_eq!(lines(&stage.overlay(XattrSpace::Trusted, &[]).unwrap()), ["etc directory", "etc/two gone"]);
    let taken = stage.copied(bind);
    assert_eq!(lines(&taken.tree), ["etc directory", "etc/two gone"]);
}

#[test]
fn mount_points_go_unless_something_is_in_them() {
    let stage = Stage::new(base);
    let made: Vec<LayerPath> = ["proc", "run", "run/secrets", "run/secrets/a", "run/kept", "etc/hosts", "none/at/all"]
        .map(|name| name.parse().unwrap())
        .into();
    let upper = stage.path("upper");
    shell(&upper, "mkdir -p proc run/secrets run/kept etc; : > run/secrets/a; : > run/kept/file; : > etc/hosts");
    let tree = stage.overlay(XattrSpace::Trusted, &made).unwrap();
    assert_eq!(lines(&tree), ["run directory", "run/kept directory", "run/kept/file file 0"]);
    assert!(!upper.join("proc").exists() && !upper.join("etc/hosts").exists() && !upper.join("run/secrets").exists());
}

#[test]
fn remembered_owners_win() {
    let stage = Stage::new(|root| {
        shell(root, "mkdir same other");
        set(root, &[("same", "user.ociforge.owner", "33:33")]);
    });
    let upper = stage.path("upper");
    let script = "
        mkdir same other; echo x > plain; chown 5:5 plain; echo y > owned; : > null; ln -s x link; ln -s y root
        touch -hd @1 same";
    shell(&upper, script);
    let owner = |path, owner| set(&upper, &[(path, "user.ociforge.owner", owner)]);
    for (path, text) in [("same", "33:33"), ("other", "1:1"), ("owned", "7:8"), ("null", "0:6:c:1:3")] {
        owner(path, text);
    }
    let open = fs::File::open(&upper).unwrap();
    let link = CapturedFile::new(open.as_fd(), b"link", "link".parse().unwrap()).unwrap().unwrap().identity().unwrap();
    assert_ne!(link.born, (0, 0), "the filesystem tells times of birth");
    let table: OwnershipTable = format!("{} {} {} 9:10\n", link.inode, link.born.0, link.born.1).parse().unwrap();
    let lower = [stage.path("base")];
    let mut options = OverlayOptions {
        space: XattrSpace::User,
        fuse: false,
        lower: &lower,
        shared: capture::CaptureOptions {
            latest: LATEST,
            owners: Some(&table),
            made: &[],
            restored: &[],
            cancelled: &|| false,
        },
    };
    let tree = overlay(&upper, &options).unwrap();
    let facts = |tree: &LayerTree| -> Vec<String> {
        let all = tree.iter().map(|(path, node)| {
            assert!(node.metadata.xattrs.is_empty());
            format!("{path} {}:{}", node.metadata.uid, node.metadata.gid)
        });
        all.collect()
    };
    assert_eq!(facts(&tree), ["/link 9:10", "/null 0:6", "/other 1:1", "/owned 7:8", "/plain 0:0", "/root 0:0"]);
    assert!(matches!(tree.get(&"null".parse().unwrap()).unwrap().kind, NodeKind::CharDevice { major: 1, minor: 3 }));
    options.shared.owners = None;
    let real = overlay(&upper, &options).unwrap();
    assert_eq!(facts(&real), ["/link 0:0", "/null 0:0", "/owned 0:0", "/plain 5:5", "/root 0:0"]);
    owner("owned", "nobody");
    options.shared.owners = Some(&table);
    let error = overlay(&upper, &options).unwrap_err();
    assert!(matches!(&error, CaptureError::Owner { .. }), "{error}");
}

#[test]
fn what_fuse_overlayfs_writes() {
    let stage = Stage::new(base);
    let upper = stage.path("upper");
    let script = "mkdir -p etc var/again var/gone; : > etc/.wh.one; : > etc/.wh.nothing; : > var/again/.wh..wh..opq";
    shell(&upper, script);
    set(&upper, &[("var/gone", "user.fuseoverlayfs.opaque", "y"), ("etc", "user.fuseoverlayfs.origin", "y")]);
    let lower = [stage.path("base")];
    let cancelled = &|| false;
    let mut options = OverlayOptions {
        space: XattrSpace::User,
        fuse: true,
        lower: &lower,
        shared: capture::CaptureOptions { latest: LATEST, owners: None, made: &[], restored: &[], cancelled },
    };
    // The upper directory's `var` is not as it is below.
    let expected = ["etc directory", "etc/one gone", "var directory", "var/again opaque", "var/gone opaque"];
    assert_eq!(lines(&overlay(&upper, &options).unwrap()), expected);
    options.fuse = false;
    assert!(matches!(overlay(&upper, &options), Err(CaptureError::Whiteout(_))));
}

#[test]
fn a_real_fuse_mount() {
    let stage = Stage::new(base);
    let [lower, upper, work] = ["base", "upper", "work"].map(|name| stage.path(name).display().to_string());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    if !Path::new("/dev/fuse").exists() {
        return;
    }
    run(Command::new("fuse-overlayfs").args(["-o", &options]).arg(stage.path("merged")));
    let script = "rm -r var/gone var/again; mkdir var/again; echo x > var/again/x; rm etc/two; echo y >> etc/sub/three";
    shell(&stage.path("merged"), script);
    run(Command::new("umount").arg("--lazy").arg(stage.path("merged")));
    let lower = [stage.path("base")];
    let cancelled = &|| false;
    let options = OverlayOptions {
        space: XattrSpace::Trusted,
        fuse: true,
        lower: &lower,
        shared: capture::CaptureOptions { latest: LATEST, owners: None, made: &[], restored: &[], cancelled },
    };
    let tree = overlay(&stage.path("upper"), &options).unwrap();
    let expected = [
        "etc directory",
        "etc/sub directory",
        "etc/sub/three file 4",
        "etc/two gone",
        "var directory",
        "var/again opaque",
        "var/again/x file 2",
        "var/gone gone",
    ];
    assert_eq!(lines(&tree), expected);
}

#[test]
fn what_can_not_be_is_an_error() {
    for (script, name, text) in [
        ("mkdir d", "trusted.overlay.redirect", "is incomplete"),
        (": > d", "trusted.overlay.metacopy", "is incomplete"),
        (": > d; : > .wh.x", "user.a", "names that begin with `.wh.`"),
        ("mkdir d .wh..wh..opq", "user.a", "names that begin with `.wh.`"),
        (": > d; ln d .wh.f", "user.a", "names that begin with `.wh.`"),
        (": > d", "user.a=b", "a tar archive cannot hold"),
        ("for i in $(seq 300); do mkdir d; cd d; done", "user.a", "too deep"),
    ] {
        let stage = Stage::new(|_| {});
        shell(&stage.path("upper"), script);
        set(&stage.path("upper"), &[("d", name, "/x")]);
        let error = stage.overlay(XattrSpace::Trusted, &[]).unwrap_err();
        assert!(error.to_string().contains(text) && error.hint().is_some(), "{script}: {error}");
    }
    let stage = Stage::new(|_| {});
    let options = OverlayOptions {
        space: XattrSpace::Trusted,
        fuse: false,
        lower: &[],
        shared: capture::CaptureOptions { latest: 0, owners: None, made: &[], restored: &[], cancelled: &|| true },
    };
    assert!(matches!(overlay(&stage.path("upper"), &options), Err(CaptureError::Cancelled)));
    assert!(matches!(overlay(&stage.path("none"), &options), Err(CaptureError::Directory { .. })));
}

#[test]
fn holes_are_zeros_and_not_read() {
    let stage = Stage::new(|_| {});
    let taken = stage.overlaid(XattrSpace::Trusted, |root| {
        shell(root, "truncate -s 64M sparse; printf x | dd of=sparse bs=1 seek=40000000 conv=notrunc status=none");
        shell(
            root,
            "truncate -s 3M empty; printf tail >> empty; truncate -s 5000001 odd; printf a | dd of=odd \
            conv=notrunc status=none",
        );
    });
    stage.check(&taken, "sparse");
    let Content::Path { len, .. } = content(&taken.tree, "sparse") else { panic!("{:?}", taken.tree) };
    assert_eq!(*len, 64 << 20);
}

fn content<'a>(tree: &'a LayerTree, name: &str) -> &'a Content {
    match &tree.get(&name.parse().unwrap()).unwrap().kind {
        NodeKind::File(content) => content,
        other => panic!("{other:?}"),
    }
}

#[test]
fn several_layers_below() {
    let stage = Stage::new(|_| {});
    let lower: Vec<PathBuf> = ["top", "middle", "bottom"].map(|name| stage.path(name)).into();
    lower.iter().for_each(|path| fs::create_dir(path).unwrap());
    shell(&lower[2], "mkdir -p a/b hidden/x over; : > a/b/f; : > a/g; : > hidden/h; : > over/o");
    shell(&lower[1], "mkdir -p a hidden; mknod over c 0 0; chmod 700 a");
    shell(&lower[0], "mkdir a; chown 7:8 a; chmod 711 a; touch -d @99 a");
    let upper = stage.path("upper");
    let script = "
        mkdir -p a/b hidden/x over; chown 7:8 a; chmod 711 a; mknod a/b/f c 0 0; mknod a/g c 0 0; mknod hidden/h c 0 0
        mknod over/o c 0 0";
    shell(&upper, script);
    let opaque = "trusted.overlay.opaque";
    set(&lower[1], &[("hidden", opaque, "y")]);
    set(&upper, &[("hidden/x", opaque, "y"), ("over", opaque, "y")]);
    let options = OverlayOptions {
        space: XattrSpace::Trusted,
        fuse: false,
        lower: &lower,
        shared: capture::CaptureOptions {
            latest: LATEST,
            owners: None,
            made: &[],
            restored: &[],
            cancelled: &|| false,
        },
    };
    let tree = overlay(&upper, &options).unwrap();
    // What is hidden below needs no hiding. Directories that lead to entries are as they are below, their times too.
    let expected = [
        "a directory",
        "a/b directory",
        "a/b/f gone",
        "a/g gone",
        "hidden directory",
        "hidden/x directory",
        "over directory",
    ];
    assert_eq!(lines(&tree), expected);
    let above = &tree.get(&"a".parse().unwrap()).unwrap().metadata;
    assert_eq!(*above, Metadata { uid: 7, gid: 8, ..Metadata::root(0o711, 99) });
}

#[test]
fn umoci_unpacks_the_same() {
    let stage = Stage::new(base);
    let options = OverlayOptions {
        space: XattrSpace::Trusted,
        fuse: false,
        lower: &[],
        shared: capture::CaptureOptions {
            latest: LATEST,
            owners: None,
            made: &[],
            restored: &[],
            cancelled: &|| false,
        },
    };
    let below = overlay(&stage.path("base"), &options).unwrap();
    let taken = stage.overlaid(XattrSpace::Trusted, |root| {
        let script = "
            rm -r var/again; mkdir var/again; echo x > var/again/x; rm -r var/gone; ln etc/two z; ln -s nowhere etc/l
            rm etc/sub/three; mkdir etc/sub/three; echo y > etc/sub/three/y; head -c 300000 /dev/urandom > noise
            mkfifo fifo; chown 7:8 fifo; chmod 0 etc/one; truncate -s 5M sparse; echo tail >> sparse";
        shell(root, script);
        set(root, &[("noise", "user.x", "=1\n")]);
    });
    let layers = [&below, &taken.tree].map(|tree| {
        let mut blob = Vec::new();
        let layer = crate::pack(tree, crate::Compression::default(), 2, &mut blob).unwrap();
        (blob, layer.diff_id)
    });
    assert!(crate::unpack::tests::umoci::compare(&layers) > 20);
}

/// A random file operation; many do not succeed.
fn mutate(root: &Path, seeded_random: &mut SeededRandom) {
    let names = ["a", "b", "c", "d", "a.b", "a-b"];
    let mut path = || {
        let depth = 1 + seeded_random.below(3);
        (0..depth).fold(root.to_owned(), |path, _| path.join(names[seeded_random.below(names.len())]))
    };
    let (one, other) = (path(), path());
    let number = seeded_random.below(1000);
    // Opening a fifo waits for somebody at its other end.
    let is_fifo = fs::metadata(&one).is_ok_and(|meta| meta.file_type().is_fifo());
    let _ = match seeded_random.below(16) {
        0 | 1 if !is_fifo => fs::write(&one, "text".repeat(number)),
        2 | 3 => fs::create_dir(&one),
        4 => fs::remove_file(&one),
        5 => fs::remove_dir_all(&one),
        6 => fs::rename(&one, &other),
        7 => fs::hard_link(&one, &other),
        8 => std::os::unix::fs::symlink("a/b", &one),
        9 if !one.is_symlink() => fs::set_permissions(&one, fs::Permissions::from_mode(0o700 | number as u32)),
        10 => chown(&one, Some(number as u32), Some(7)),
        11 => {
            let flags = rustix::fs::XattrFlags::empty();
            rustix::fs::lsetxattr(&one, "user.x", number.to_string().as_bytes(), flags).map_err(Into::into)
        }
        12 if !is_fifo => fs::OpenOptions::new()
            .append(true)
            .open(&one)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"more")),
        13 => {
            let fifo = FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, &one, fifo, rustix::fs::Mode::RWXU, 0).map_err(Into::into)
        }
        14 => fs::remove_dir_all(&one).and_then(|()| fs::create_dir(&one)),
        15 => fs::remove_file(&one).and_then(|()| fs::create_dir(&one)),
        _ => Ok(()),
    };
}

#[test]
fn any_step_on_any_tree() {
    let mut seeded_random = SeededRandom::default();
    for round in 0..200 {
        let stage = Stage::new(|root| (0..60).for_each(|_| mutate(root, &mut seeded_random)));
        let mut step = |root: &Path| (0..30).for_each(|_| mutate(root, &mut seeded_random));
        let taken = stage.overlaid(BOTH[round % 2], &mut step);
        stage.check(&taken, &format!("round {round}, overlay"));
        let taken = stage.copied(&mut step);
        stage.check(&taken, &format!("round {round}, copy"));
    }
}
