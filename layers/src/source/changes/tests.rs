use std::fs;

use super::super::capture::tests::{LATEST, Stage, lines, set, shell};
use super::*;

fn base(root: &Path) {
    let script = "
        mkdir -p a/deep/down kept moved/inner again
        echo 1 > a/deep/down/f; echo 2 > kept/two; echo 3 > moved/inner/three; echo 4 > again/four
        echo 5 > one; ln one two; echo 6 > same; chown 7:8 kept; mkfifo fifo";
    shell(root, script);
    set(root, &[("kept", "user.a", "b")]);
}

#[test]
fn what_is_added_changed_and_removed() {
    let stage = Stage::new(base);
    let taken = stage.copied(|root| {
        let script = "
            rm -r a; mv moved elsewhere; rm -r again; mkdir again; echo new > again/new; ln one three; : > kept/new
            cp -p same other; mv other same; rm fifo; chmod 4711 kept/two; mkdir fifo";
        shell(root, script);
    });
    let expected = [
        "a gone",
        "again opaque",
        "again/new file 4",
        "elsewhere directory",
        "elsewhere/inner directory",
        "elsewhere/inner/three file 2",
        "fifo directory",
        "kept directory",
        "kept/new file 0",
        "kept/two file 2",
        "moved gone",
        "one file 2",
        "same file 2",
        "three = one",
        "two = one",
    ];
    assert_eq!(lines(&taken.tree), expected);
    stage.check(&taken, "copy");
}

#[test]
fn what_is_as_it_was_is_not_taken() {
    let stage = Stage::new(base);
    let taken = stage.copied(|root| shell(root, "cat kept/two; echo x > kept/x; rm kept/x; chmod 755 a"));
    assert_eq!(lines(&taken.tree), [""; 0]);
    stage.check(&taken, "nothing");
    let taken = stage.copied(|root| set(root, &[("kept", "user.a", "c"), ("", "user.top", "1")]));
    assert_eq!(lines(&taken.tree), [" directory", "kept directory"]);
    stage.check(&taken, "attributes");
}

#[test]
fn a_change_within_one_tick_of_the_clock_is_seen() {
    let stage = Stage::new(|_| {});
    let file = stage.path("copy/f");
    for n in 0..20 {
        fs::write(&file, "a").unwrap();
        let before = snapshot(&stage.path("copy"), None, &|| false).unwrap();
        fs::write(&file, "b").unwrap();
        let options = CaptureOptions { latest: LATEST, owners: None, made: &[], restored: &[], cancelled: &|| false };
        let tree = changes(&stage.path("copy"), &before, &options).unwrap();
        assert_eq!(lines(&tree), ["f file 1"], "{n}");
    }
}

#[test]
fn mount_points_go_and_the_caller_may_stop() {
    let stage = Stage::new(base);
    let copy = stage.path("copy");
    let before = snapshot(&copy, None, &|| false).unwrap();
    shell(&copy, "mkdir -p run/a kept/mnt; : > run/hosts");
    let made: Vec<_> = ["run", "run/a", "run/hosts", "kept/mnt"].map(|name| name.parse().unwrap()).into();
    let mut options = CaptureOptions { latest: LATEST, owners: None, made: &made, restored: &[], cancelled: &|| false };
    assert_eq!(lines(&changes(&copy, &before, &options).unwrap()), [""; 0]);
    assert!(!copy.join("run").exists() && !copy.join("kept/mnt").exists());
    options.cancelled = &|| true;
    assert!(matches!(changes(&copy, &before, &options), Err(CaptureError::Cancelled)));
    assert!(matches!(snapshot(&copy, None, &|| true), Err(CaptureError::Cancelled)));
    assert!(matches!(snapshot(&copy.join("none"), None, &|| false), Err(CaptureError::Directory { .. })));
}
