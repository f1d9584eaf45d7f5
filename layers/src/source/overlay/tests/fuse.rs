//! Upper directories of `fuse-overlayfs`, and owners that are remembered in attributes.

use std::process::Command;

use super::*;
use crate::owner::OwnershipTable;

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
