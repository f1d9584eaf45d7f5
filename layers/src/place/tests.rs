use super::*;
use crate::below::BaseFiles;
use crate::index::FileIndex;
use crate::tree::{Content, TreeError};

const MERGED: &[&str] = &[
    "/bin link usr/bin",
    "/lib link usr/lib",
    "/home dir 0755 0:0 3",
    "/home/app dir 0700 1000:1000 4",
    "/etc dir 0755 0:0 1",
    "/etc/app dir 0750 0:5 2 user.k=eA==",
    "/etc/mtab link ../proc/self/mounts",
    "/etc/passwd file",
    "/loop link loop",
    "/opt link var/opt",
    "/run dir 0755 0:0 0",
    "/tmp dir 1777 0:0 9",
    "/usr dir 0755 0:0 7",
    "/usr/bin dir 0755 0:0 8",
    "/usr/bin/sh file",
    "/usr/lib dir 0755 0:0 8",
    "/var dir 0755 0:0 7",
    "/var/run link /run",
];

fn base() -> LowerLayers {
    LowerLayers::new(BaseFiles::Known(FileIndex::parse(MERGED.iter().copied()).unwrap()))
}

fn rules(files: FileRule, directories: DirectoryRule) -> PlacementRules {
    PlacementRules { files, directories, mtime: 0 }
}

fn copy() -> PlacementRules {
    rules(FileRule::Replace, DirectoryRule::KeepAll)
}

/// `a/` is a directory, `a -> b` a link, `a = b` a hard link, `-a` a whiteout, `a!` an opaque directory.
fn tree(names: &[&str]) -> LayerTree {
    let mut tree = LayerTree::new();
    for name in names {
        let (path, kind) = if let Some((path, target)) = name.split_once(" -> ") {
            (path, NodeKind::Symlink(target.as_bytes().to_vec()))
        } else if let Some((path, target)) = name.split_once(" = ") {
            (path, NodeKind::Hardlink(target.parse().unwrap()))
        } else if let Some(path) = name.strip_prefix('-') {
            (path, NodeKind::Whiteout)
        } else if let Some(path) = name.strip_suffix('!') {
            (path, NodeKind::Directory { opaque: true })
        } else if name.ends_with('/') {
            (*name, NodeKind::Directory { opaque: false })
        } else {
            (*name, NodeKind::File(Content::Bytes(Vec::new())))
        };
        let mode = if matches!(kind, NodeKind::Directory { .. }) { 0o711 } else { 0o644 };
        tree.insert(path.parse().unwrap(), TreeNode { metadata: Metadata::root(mode, 6), kind }).unwrap();
    }
    tree
}

/// The entries, each with its mode, owner and time.
fn shown(tree: &LayerTree) -> Vec<String> {
    let entry = |(path, node): (&LayerPath, &TreeNode)| {
        let Metadata { mode, uid, gid, mtime, .. } = &node.metadata;
        format!("{path} {mode:o} {uid}:{gid} {mtime}")
    };
    tree.iter().map(entry).collect()
}

fn placed(names: &[&str], rules: &PlacementRules) -> Vec<String> {
    shown(&place(tree(names), &base(), rules).unwrap().tree)
}

#[test]
fn paths_of_too_many_directories_are_refused() {
    let deep = |directories: usize| vec!["d"; directories + 1].join("/");
    assert!(place(tree(&[&deep(255)]), &base(), &copy()).is_ok());
    for directories in [256, 257, 1000] {
        let error = place(tree(&[&deep(directories)]), &base(), &copy()).unwrap_err().to_string();
        assert!(error.contains("has more than 256 directories") && error.len() < 200, "{error}");
    }
}

#[test]
fn deep_trees_are_placed_in_time() {
    // Each directory by itself, as archives list them; what was looked up above one is not looked up again.
    let branch = |n: usize, depth: usize| format!("new{n}/{}/", vec!["d"; depth].join("/"));
    let names: Vec<String> = (0..40).flat_map(|n| (1..250).map(move |depth| branch(n, depth))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let begun = std::time::Instant::now();
    let placed = place(tree(&names), &base(), &copy()).unwrap();
    assert_eq!(placed.tree.len(), 40 * 250);
    assert!(begun.elapsed() < std::time::Duration::from_secs(120), "{:?}", begun.elapsed());
    // Nothing is in a directory that is not there.
    assert_eq!(placed.lookups.paths().count(), 40);
}

#[test]
fn paths_that_others_cannot_make_are_refused() {
    let path = |len: usize| format!("{}/{}", vec!["d".repeat(199); 20].join("/"), "f".repeat(len - 4000));
    assert!(place(tree(&[&path(4094)]), &base(), &copy()).is_ok());
    let error = place(tree(&[&path(4095)]), &base(), &copy()).unwrap_err().to_string();
    assert!(error.contains("is longer than 4096 bytes") && error.len() < 200, "{error}");
}

#[test]
fn entries_lie_where_links_lead() {
    assert_eq!(placed(&["bin/hello"], &copy()), ["/usr 755 0:0 7", "/usr/bin 755 0:0 8", "/usr/bin/hello 644 0:0 6"]);
    assert_eq!(
        placed(&["lib/", "lib/x/", "lib/x/f"], &copy())[2..],
        ["/usr/lib/x 711 0:0 6", "/usr/lib/x/f 644 0:0 6"]
    );
    assert_eq!(placed(&["var/run/app/f"], &copy()), ["/run 755 0:0 0", "/run/app 755 0:0 0", "/run/app/f 644 0:0 6"]);
    // A link to what is missing.
    assert_eq!(placed(&["opt/app"], &copy()), ["/var 755 0:0 7", "/var/opt 755 0:0 0", "/var/opt/app 644 0:0 6"]);
}

#[test]
fn directories_on_the_way_keep_what_they_are() {
    assert_eq!(
        placed(&["home/app/.config/f"], &copy()),
        [
            "/home 755 0:0 3",
            "/home/app 700 1000:1000 4",
            "/home/app/.config 755 0:0 0",
            "/home/app/.config/f 644 0:0 6"
        ]
    );
    let placed = place(tree(&["etc/app/f", "-tmp/x"]), &base(), &copy()).unwrap();
    assert_eq!(placed.tree.get(&"etc/app".parse().unwrap()).unwrap().metadata.xattrs[&b"user.k"[..]], b"x");
    assert_eq!(shown(&placed.tree)[3..], ["/tmp 1777 0:0 9", "/tmp/x 644 0:0 6"]);
}

#[test]
fn what_is_said_of_a_directory_counts_or_does_not() {
    let of = |directories| placed(&["etc/app/"], &rules(FileRule::Replace, directories)).pop().unwrap();
    assert_eq!(of(DirectoryRule::KeepAll), "/etc/app 750 0:5 2");
    assert_eq!(of(DirectoryRule::KeepBase), "/etc/app 750 0:5 2");
    assert_eq!(of(DirectoryRule::Replace), "/etc/app 711 0:0 6");
    let mut below = base();
    below.push("own", FileIndex::parse(["/etc/app dir 0701 1:1 5"]).unwrap());
    let of = |directories| {
        let placed = place(tree(&["etc/app/"]), &below, &rules(FileRule::Replace, directories)).unwrap();
        shown(&placed.tree).pop().unwrap()
    };
    assert_eq!(of(DirectoryRule::KeepAll), "/etc/app 701 1:1 5");
    assert_eq!(of(DirectoryRule::KeepBase), "/etc/app 711 0:0 6");
}

#[test]
fn a_file_meets_a_link_or_a_directory() {
    let one = |name: &str, files| placed(&[name], &rules(files, DirectoryRule::KeepAll)).pop().unwrap();
    let into = || FileRule::Into(b"hello".to_vec());
    assert_eq!(one("etc/mtab", FileRule::Replace), "/etc/mtab 644 0:0 6");
    assert_eq!(one("etc/mtab", FileRule::Follow), "/proc/self/mounts 644 0:0 6");
    assert_eq!(one("etc", into()), "/etc/hello 644 0:0 6");
    assert_eq!(one("bin", into()), "/usr/bin/hello 644 0:0 6");
    assert_eq!(one("etc/new", into()), "/etc/new 644 0:0 6");
    let error = |name: &str, files| {
        place(tree(&[name]), &base(), &rules(files, DirectoryRule::KeepAll)).unwrap_err().to_string()
    };
    let onto = "cannot place the file /etc/app: /etc/app is a directory in the base";
    assert_eq!(error("etc/app", FileRule::Replace), onto);
    assert_eq!(error("bin", FileRule::Follow), "cannot place the file /bin: /usr/bin is a directory in the base");
    assert_eq!(
        error("etc", FileRule::Into(b"app".to_vec())),
        "cannot place the file /etc: /etc/app is a directory in the base"
    );
    assert_eq!(
        error("etc/passwd/x", FileRule::Replace),
        "cannot place /etc/passwd/x: /etc/passwd is a file in the base"
    );
    assert_eq!(error("loop/x", FileRule::Replace), "cannot place /loop/x: the links of the layers below form a loop");
}

#[test]
fn a_directory_does_not_take_the_place_of_a_file() {
    for rules in [copy(), rules(FileRule::Replace, DirectoryRule::Replace)] {
        let placed = place(tree(&["etc/passwd/"]), &base(), &rules);
        assert!(matches!(placed, Err(PlaceError::NotADirectory { .. })), "{placed:?}");
    }
}

#[test]
fn what_is_not_stated_of_a_directory_stays() {
    let of = |name: &str, mode, owner| {
        placed(&[name], &rules(FileRule::Replace, DirectoryRule::Change { mode, owner })).pop().unwrap()
    };
    assert_eq!(of("etc/app/", None, None), "/etc/app 750 0:5 2");
    assert_eq!(of("etc/app/", Some(0o701), None), "/etc/app 701 0:5 2");
    assert_eq!(of("etc/app/", None, Some((7, 8))), "/etc/app 750 7:8 2");
    // A new one is as the tree says.
    assert_eq!(of("etc/new/", None, None), "/etc/new 711 0:0 6");
}

#[test]
fn an_opaque_root_is_refused() {
    let mut tree = LayerTree::new();
    let kind = NodeKind::Directory { opaque: true };
    tree.insert(LayerPath::root(), TreeNode { metadata: Metadata::root(0o755, 0), kind }).unwrap();
    assert_eq!(place(tree, &base(), &copy()).unwrap_err(), PlaceError::OpaqueRoot);
}

#[test]
fn hard_links_follow_their_files_and_entries_that_meet_are_one() {
    let placed = place(tree(&["bin/a", "usr/b = bin/a", "usr/bin/a"]), &base(), &copy()).unwrap();
    assert_eq!(shown(&placed.tree).len(), 4);
    let link = placed.tree.get(&"usr/b".parse().unwrap()).unwrap();
    assert!(matches!(&link.kind, NodeKind::Hardlink(target) if target.as_bytes() == b"usr/bin/a"));
    let clash = place(tree(&["bin/x/y", "usr/bin/x"]), &base(), &copy());
    assert!(matches!(clash, Err(PlaceError::Tree(TreeError::IsADirectory(_)))), "{clash:?}");
}

#[test]
fn nothing_shows_through_an_opaque_directory() {
    assert_eq!(
        placed(&["usr!", "usr/bin/f"], &rules(FileRule::Replace, DirectoryRule::Replace)),
        ["/usr 711 0:0 6", "/usr/bin 755 0:0 0", "/usr/bin/f 644 0:0 6"]
    );
}

#[test]
fn assumptions_are_told_and_the_base_is_read_where_they_do_not_serve() {
    let assumed = LowerLayers::new(BaseFiles::Assumed);
    let placed = place(tree(&["tmp/f", "code/x/f"]), &assumed, &PlacementRules { mtime: 77, ..copy() }).unwrap();
    assert_eq!(placed.assumed, ["code", "tmp"].map(|path| path.parse().unwrap()));
    assert_eq!(shown(&placed.tree)[..3], ["/code 755 0:0 77", "/code/x 755 0:0 77", "/code/x/f 644 0:0 6"]);
    assert_eq!(shown(&placed.tree)[3], "/tmp 1777 0:0 77");
    for (name, files) in [
        ("bin/x", FileRule::Replace),
        ("home/app/x", FileRule::Replace),
        ("etc/resolv.conf", FileRule::Follow),
        ("data", FileRule::Into(b"x".to_vec())),
    ] {
        let placed = place(tree(&[name]), &assumed, &rules(files, DirectoryRule::KeepAll));
        assert!(matches!(placed, Err(PlaceError::Unknown(_))), "{name}");
    }
}

#[test]
fn the_same_answers_give_the_same_place() {
    let placed = place(tree(&["bin/x", "code/a/b/c"]), &base(), &copy()).unwrap();
    let lookups = Lookups::parse(placed.lookups.lines().iter().map(String::as_str)).unwrap();
    assert_eq!(lookups, placed.lookups);
    // What is in a directory that is not there is not asked for.
    assert!(!lookups.lines().iter().any(|line| line.contains(&hex::encode("code/a"))));
    let before = lookups.answers(&base()).unwrap();
    let mut below = base();
    below.push("own", FileIndex::parse(["/usr/bin/y file"]).unwrap());
    assert_eq!(lookups.answers(&below).unwrap(), before);
    below.push("own", FileIndex::parse(["/code dir 0700 0:0 0"]).unwrap());
    assert_ne!(lookups.answers(&below).unwrap(), before);
    assert!(lookups.answers(&LowerLayers::new(BaseFiles::Assumed)).is_err());
    assert_eq!(Lookups::parse(["directory zz"]), None);
}
