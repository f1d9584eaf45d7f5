//! Several lower directories, and layers that umoci unpacks.

use std::os::unix::fs::FileTypeExt;

use super::*;
use crate::seeded_random::SeededRandom;
use crate::tree::Metadata;

/// The options of an overlay that the kernel mounted for root.
fn trusted(lower: &[PathBuf]) -> OverlayOptions<'_> {
    let (made, restored) = (&[] as &[_], &[] as &[_]);
    let shared = capture::CaptureOptions { latest: LATEST, owners: None, made, restored, cancelled: &|| false };
    OverlayOptions { space: XattrSpace::Trusted, fuse: false, lower, shared }
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
    let options = trusted(&lower);
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
    let options = trusted(&[]);
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
