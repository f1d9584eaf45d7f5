//! Layers that want out. Each ends in an error or does no harm, and nothing beside the directory changes.

mod cases;

use super::*;

/// What comes of a hostile layer.
enum Outcome {
    /// An error whose text, causes included, has this in it.
    Refused(&'static str),
    /// The directory then holds this, as [`shown`] has it.
    Safe(&'static [&'static str]),
}

use Outcome::{Refused, Safe};

struct Case {
    name: &'static str,
    tar: Vec<u8>,
    outcome: Outcome,
}

fn case(name: &'static str, rows: &[Row<'_>], outcome: Outcome) -> Case {
    Case { name, tar: Tar::of(rows).end(), outcome }
}

fn made(name: &'static str, tar: Tar, outcome: Outcome) -> Case {
    Case { name, tar: tar.end(), outcome }
}

fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn one_layer() {
    let mut cases = cases::names();
    cases.extend(cases::links());
    cases.extend(cases::contradictions());
    cases.extend(cases::damage());
    cases.extend(cases::metadata());
    assert!(cases.len() >= 40, "{}", cases.len());
    for Case { name, tar, outcome } in cases {
        let scene = Scene::new();
        let into = scene.empty("into");
        let result = unpack(&tar, &into, &UnpackOptions::default());
        scene.check(name);
        match (outcome, result) {
            (Refused(why), Err(error)) => {
                assert!(told(&error).contains(why), "{name}: {}", told(&error));
                assert!(
                    error.hint().is_some()
                        || matches!(
                            error,
                            UnpackError::Entry { fault: UnpackFault::System(..), .. } | UnpackError::Read(_)
                        ),
                    "{name}"
                );
            }
            (Refused(_), Ok(_)) => panic!("{name} was unpacked: {:?}", shown(&into)),
            (Safe(_), Err(error)) => panic!("{name}: {}", told(&error)),
            (Safe(there), Ok(_)) => assert_eq!(shown(&into), there, "{name}"),
        }
    }
}

/// Attributes that would have overlayfs follow a path, or hide what is below.
#[test]
fn attributes_that_steer_overlayfs_are_dropped() {
    let attributes: Vec<(String, &[u8])> = ["trusted", "user"]
        .iter()
        .flat_map(|space| ["redirect", "opaque", "whiteout", "metacopy", "overlay.x"].map(|name| (space, name)))
        .map(|(space, name)| (format!("SCHILY.xattr.{space}.overlay.{name}"), b"/../canary".as_slice()))
        .chain([("SCHILY.xattr.security.selinux".to_owned(), b"label".as_slice())])
        .chain([("SCHILY.xattr.user.kept".to_owned(), b"yes".as_slice())])
        .collect();
    let records: Vec<_> = attributes.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    let tar = Tar::default().pax(&records).row((DIR, "d", "")).pax(&records).row((FILE, "d/f", "")).end();
    let scene = Scene::new();
    let into = scene.empty("into");
    unpack(&tar, &into, &UnpackOptions::default()).unwrap();
    assert_eq!(
        (xattrs(&into.join("d")), xattrs(&into.join("d/f"))),
        (" user.kept=yes".into(), " user.kept=yes".into())
    );
}

/// What an earlier layer did must not lead a later one astray either.
#[test]
fn several_layers() {
    let long: String = "d/".repeat(250);
    type Layers<'a> = &'a [&'a [Row<'a>]];
    let cases: &[(&str, Layers<'_>, Outcome)] = &[
        (
            "a link by the layer below",
            &[&[(SYM, "l", "/canary")], &[(FILE, "l/file", "evil")]],
            Safe(&["canary/", "canary/file=evil", "l->/canary"]),
        ),
        (
            "a link to the parent by the layer below",
            &[&[(SYM, "l", "../../../canary"), (DIR, "canary", "")], &[(FILE, "l/file", "evil")]],
            Safe(&["canary/", "canary/file=evil", "l->../../../canary"]),
        ),
        (
            "a link in place of a directory",
            &[&[(FILE, "d/file", "1")], &[(SYM, "d", "../canary")], &[(FILE, "d/file", "evil")]],
            Safe(&["canary/", "canary/file=evil", "d->../canary"]),
        ),
        (
            "a whiteout through a link",
            &[&[(SYM, "l", "../canary")], &[(FILE, "l/.wh.file", ""), (FILE, "l/.wh..wh..opq", "")]],
            Safe(&["l->../canary"]),
        ),
        ("a whiteout of a link", &[&[(SYM, "l", "../canary")], &[(FILE, ".wh.l", "")]], Safe(&[])),
        (
            "an opaque directory for a link",
            &[&[(SYM, "l", "../canary")], &[(DIR, "l", ""), (FILE, "l/.wh..wh..opq", "")]],
            Safe(&["l/"]),
        ),
        (
            "an opaque root",
            &[&[(FILE, "a/b", ""), (SYM, "l", "../canary")], &[(FILE, ".wh..wh..opq", ""), (FILE, "c", "1")]],
            Safe(&["c=1"]),
        ),
        (
            "a loop below",
            &[&[(SYM, "a", "b"), (SYM, "b", "a")], &[(FILE, "a/f", "")]],
            Refused("loop of symbolic links"),
        ),
        (
            "a whiteout in a loop below",
            &[&[(SYM, "a", "b"), (SYM, "b", "a")], &[(FILE, "a/.wh.f", "")]],
            Refused("loop of symbolic links"),
        ),
        ("a file below", &[&[(FILE, "a", "")], &[(FILE, "a/b", "")]], Refused("/a is not a directory")),
        (
            "a link to a file below",
            &[&[(FILE, "a", ""), (SYM, "l", "a")], &[(FILE, "l/b", "")]],
            Refused("/a is not a directory"),
        ),
        (
            "a hard link to a layer below",
            &[&[(FILE, "a", "")], &[(LINK, "b", "a")]],
            Refused("is not an earlier entry"),
        ),
        (
            "deeper with every layer",
            &[
                &[(DIR, &long, ""), (SYM, "l", &long)],
                &[(DIR, &format!("l/{long}"), "")],
                &[(FILE, &format!("l/{long}f"), "")],
            ],
            Refused("256 directories"),
        ),
    ];
    for (name, layers, outcome) in cases {
        let scene = Scene::new();
        let layers: Vec<_> = layers.iter().map(|rows| plain(Tar::of(rows))).collect();
        let root = scene.path("root");
        let result = unpack_all(&layers, &root, &UnpackOptions::default());
        scene.check(name);
        match (outcome, result) {
            (Refused(why), Err(error)) => assert!(told(&error).contains(why), "{name}: {}", told(&error)),
            (Refused(_), Ok(_)) => panic!("{name} was unpacked: {:?}", shown(&root)),
            (Safe(_), Err(error)) => panic!("{name}: {}", told(&error)),
            (Safe(there), Ok(_)) => assert_eq!(shown(&root), *there, "{name}"),
        }
    }
}
