//! What a step added, changed and removed in an upper directory.

use std::ffi::OsStr;
use std::os::unix::net::UnixListener;

use super::*;

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
