//! Layers that overlayfs stacks show what layers that are put onto each other show.

use std::collections::BTreeSet;

use super::*;
use crate::seeded_random::SeededRandom;
use crate::unpack::rebase::{self, rebase};

/// The directories of the layers, stacked as the program does it, topmost first.
fn stack(layers: &[Layer], place: &Path) -> Result<Vec<PathBuf>, String> {
    let space = XattrSpace::Trusted;
    let mut stack: Vec<PathBuf> = Vec::new();
    for (n, (blob, diff_id)) in layers.iter().enumerate() {
        let layer = place.join(n.to_string());
        fs::create_dir(&layer).unwrap();
        let unpacked = unpack_layer(&blob[..], diff_id, &layer, &UnpackOptions::default())
            .map_err(|error| format!("{error:?}"))?;
        rebase(&layer, &unpacked, &stack, space).map_err(|error| format!("{error:?}"))?;
        stack.insert(0, layer);
    }
    Ok(rebase::visible(stack, space).unwrap())
}

/// What an overlay of `directories`, topmost first, shows, in the form of [`shown`].
fn overlaid(directories: &[PathBuf]) -> Vec<String> {
    let mut all = Vec::new();
    list_overlaid(directories, "", &mut all);
    all.sort();
    all
}

fn list_overlaid(directories: &[PathBuf], prefix: &str, all: &mut Vec<String>) {
    let names = |directory: &PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let names: BTreeSet<_> = directories.iter().flat_map(names).collect();
    for name in names {
        let found: Vec<_> = directories
            .iter()
            .map(|directory| directory.join(&name))
            .filter(|path| path.symlink_metadata().is_ok())
            .collect();
        let name = format!("{prefix}{}", name.to_str().unwrap());
        let kind = found[0].symlink_metadata().unwrap();
        if kind.is_dir() {
            let mut inside = Vec::new();
            for path in found.iter().take_while(|path| path.symlink_metadata().unwrap().is_dir()) {
                inside.push(path.clone());
                if metadata::is_opaque(fs::File::open(path).unwrap(), &[XattrSpace::Trusted]) {
                    break;
                }
            }
            all.push(format!("{name}/"));
            list_overlaid(&inside, &format!("{name}/"), all);
        } else if kind.is_symlink() {
            all.push(format!("{name}->{}", fs::read_link(&found[0]).unwrap().display()));
        } else if kind.is_file() {
            all.push(format!("{name}={}", fs::read_to_string(&found[0]).unwrap()));
        } else if kind.rdev() != 0 {
            all.push(format!("{name}?"));
        }
    }
}

/// What the layers show, put onto each other and stacked.
fn both(layers: &[Layer]) -> (Result<Vec<String>, UnpackError>, Result<Vec<String>, String>) {
    let scene = tempfile::tempdir().unwrap();
    let root = scene.path().join("root");
    let flat = unpack_all(layers, &root, &UnpackOptions::default()).map(|_| shown(&root));
    (flat, stack(layers, scene.path()).map(|stack| overlaid(&stack)))
}

#[test]
fn whiteouts_are_where_there_is_something_to_hide() {
    let below = [
        (DIR, "usr/lib", ""),
        (FILE, "usr/lib/old", "1"),
        (SYM, "lib", "usr/lib"),
        (FILE, "gone/f", "1"),
        (FILE, "opaque/f", "1"),
        (FILE, "file", "1"),
        (FILE, "dir/f", "1"),
        (SYM, "link", "dir"),
        (SYM, "dangling", "no/where"),
    ];
    type Case<'a> = (&'a str, &'a [Row<'a>], &'a [&'a str]);
    // What is on disk.
    let cases: &[Case<'_>] = &[
        ("of a directory", &[(FILE, ".wh.gone", "")], &["gone?"]),
        ("in a directory that no layer has", &[(FILE, "no/where/.wh.gone", "")], &[]),
        ("of what no layer has", &[(FILE, "gone/.wh.g", ""), (FILE, ".wh.nothing", "")], &[]),
        ("below a file", &[(FILE, "file/.wh.gone", "")], &[]),
        ("through a link", &[(FILE, "lib/.wh.old", "")], &["usr/", "usr/lib/", "usr/lib/old?"]),
        ("through a link to nothing", &[(FILE, "dangling/.wh.x", "")], &[]),
        ("of a link", &[(FILE, ".wh.lib", ""), (FILE, "lib/.wh.old", "")], &["lib?"]),
        ("of its own file", &[(FILE, "gone", "2"), (FILE, ".wh.gone", "")], &["gone=2"]),
        ("of its own directory", &[(FILE, ".wh.gone", ""), (FILE, "gone/g", "2")], &["gone/", "gone/g=2"]),
        ("of what is gone with its directory", &[(FILE, ".wh.gone", ""), (FILE, "gone/.wh.f", "")], &["gone?"]),
        ("opaque", &[(FILE, "opaque/.wh..wh..opq", "")], &["opaque/"]),
        ("opaque through a link", &[(FILE, "link/.wh..wh..opq", "")], &["dir/"]),
        ("opaque where no layer has a directory", &[(FILE, "no/where/.wh..wh..opq", "")], &[]),
        ("opaque and new", &[(FILE, "new/.wh..wh..opq", ""), (FILE, "new/f", "2")], &["new/", "new/f=2"]),
        ("opaque at the root", &[(FILE, ".wh..wh..opq", ""), (FILE, "lib/f", "2")], &["lib/", "lib/f=2"]),
        ("opaque as a whole", &[(FILE, "./.wh..wh..opq", "")], &[]),
    ];
    for (name, layer, expected) in cases {
        let scene = tempfile::tempdir().unwrap();
        let layers = [&below[..], layer].map(|rows| plain(Tar::of(rows)));
        let stack = stack(&layers, scene.path()).unwrap();
        assert_eq!(shown(&stack[0]), *expected, "{name}");
        assert_eq!(stack.len(), if name.contains("root") || name.contains("whole") { 1 } else { 2 }, "{name}");
        let (flat, stacked) = both(&layers);
        assert_eq!(stacked.unwrap(), flat.unwrap(), "{name}");
    }
}

/// The order of the entries does not matter, and neither does whose attributes overlayfs reads.
#[test]
fn whiteouts_as_overlayfs_has_them() {
    let below = Tar::of(&[(FILE, "d/gone", ""), (FILE, "d/file", ""), (FILE, "d/dir/g", ""), (FILE, "o/f", "")]).end();
    let rows = [
        (FILE, "d/.wh.gone", ""),
        (FILE, "d/.wh.file", ""),
        (FILE, "d/file", "own"),
        (FILE, "d/.wh.dir", ""),
        (FILE, "d/dir/f", "own"),
        (FILE, "o/.wh..wh..opq", ""),
        (FILE, "f", "no directory"),
    ];
    let mut backwards = rows;
    backwards.reverse();
    for (space, name) in [(XattrSpace::Trusted, "trusted"), (XattrSpace::User, "user")] {
        for rows in [rows, backwards] {
            let scene = Scene::new();
            let (into, lower) = (scene.empty("into"), scene.empty("root"));
            unpack(&below, &lower, &UnpackOptions::default()).unwrap();
            let unpacked = unpack(&Tar::of(&rows).end(), &into, &UnpackOptions::default()).unwrap();
            rebase(&into, &unpacked, &[lower], space).unwrap();
            let expected = ["d/", "d/dir/", "d/dir/f=own", "d/file=own", "d/gone?", "f=no directory", "o/"];
            assert_eq!(shown(&into), expected);
            let gone = fs::symlink_metadata(into.join("d/gone")).unwrap();
            assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
            for (directory, opaque) in [("o", true), ("d/dir", true), ("d", false)] {
                let expected = if opaque { format!(" {name}.overlay.opaque=y") } else { String::new() };
                assert_eq!(xattrs(&into.join(directory)), expected, "{directory}");
            }
            assert_eq!(fs::metadata(into.join("d")).unwrap().mtime(), 0, "times are set last");
        }
    }
}

/// A directory that a whiteout hides gives nothing to the new one in its place.
#[test]
fn what_is_hidden_gives_no_attributes() {
    let mut named = header(DIR, 0);
    named.set_path("d").unwrap();
    named.set_mode(0o700);
    let below = plain(Tar::default().put(named, b"").row((FILE, "d/f", "1")));
    for whiteout in [".wh.d", ".wh..wh..opq"] {
        let scene = tempfile::tempdir().unwrap();
        let above = plain(Tar::of(&[(FILE, whiteout, ""), (FILE, "d/g", "2")]));
        let stack = stack(&[below.clone(), above], scene.path()).unwrap();
        assert_eq!(fs::metadata(stack[0].join("d")).unwrap().mode() & 0o7777, 0o755, "{whiteout}");
    }
}

/// A few rows of a layer, of few names, so that they meet those of other layers.
fn random_rows(seeded_random: &mut SeededRandom, lowest: bool) -> Vec<(EntryType, String, String)> {
    const TARGETS: [&str; 9] = ["a", "b", "c", "../a", "../b/c", "/a/b", "/c", "nowhere", "b/a"];
    let rows = 1 + seeded_random.below(5);
    let row = |_| {
        let mut name = || ["a", "b", "c"][seeded_random.below(3)];
        let (one, two, name) = (name(), name(), name());
        let parent = [String::new(), format!("{one}/"), format!("{one}/{two}/")][seeded_random.below(3)].clone();
        match seeded_random.below(if lowest { 5 } else { 9 }) {
            0 | 1 => (DIR, format!("{parent}{name}"), String::new()),
            2 | 3 => (FILE, format!("{parent}{name}"), seeded_random.below(9).to_string()),
            4 => (SYM, format!("{parent}{name}"), TARGETS[seeded_random.below(9)].to_owned()),
            5..8 => (FILE, format!("{parent}.wh.{name}"), String::new()),
            _ => (FILE, format!("{parent}.wh..wh..opq"), String::new()),
        }
    };
    (0..rows).map(row).collect()
}

/// What can be put onto each other can be stacked, and shows the same, unless two entries of a layer meet where links below
/// lead.
#[test]
fn random_layers() {
    let (mut seeded_random, mut compared) = (SeededRandom::default(), 0);
    for round in 0..200 {
        let layers: Vec<_> = (0..2 + seeded_random.below(2)).map(|n| random_rows(&mut seeded_random, n == 0)).collect();
        let tar = |rows: &Vec<(EntryType, String, String)>| {
            plain(rows.iter().fold(Tar::default(), |tar, (kind, name, text)| tar.row((*kind, name, text))))
        };
        match both(&layers.iter().map(tar).collect::<Vec<_>>()) {
            (Ok(_), Err(error)) if error.starts_with("Blocked") => {}
            (Ok(flat), stacked) => {
                compared += 1;
                assert_eq!(stacked.as_ref(), Ok(&flat), "{round}: {layers:?}");
            }
            (Err(_), _) => {}
        }
    }
    assert!(compared > 120, "{compared}");
}
