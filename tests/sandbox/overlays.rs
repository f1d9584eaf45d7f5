//! Overlays of many layers.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

use super::Case;
use super::identity::{EVERYBODY, Machine, Played, Who};
use super::waiting::wait_until;

pub(crate) const CASES: &[Case] = &[
    ("overlays::layers_are_seen_as_one", layers_are_seen_as_one),
    ("overlays::a_page_is_not_enough_for_300_layers_by_mount", a_page_is_not_enough),
    ("overlays::fuse_does_what_the_kernel_does", fuse_does_what_the_kernel_does),
    ("overlays::fuse_ends_with_a_killed_process", fuse_ends_with_a_killed_process),
    ("overlays::a_refusal_can_be_told_apart", a_refusal_can_be_told_apart),
];

/// Layers `0` (the lowest) to `count - 1`, whose names have every character that options give a meaning, and the other
/// directories of an overlay. Each layer has a file of its own and its version of `same`. The topmost one removes `gone`
/// of the lowest and hides the rest of `dir` if there is more than one.
fn prepare(machine: &Machine, who: Who, count: usize) -> tempfile::TempDir {
    let directory = machine.directory(who);
    let root = directory.path();
    for name in ["upper", "work", "merged:,\\"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    for number in 0..count {
        let layer = root.join("lower").join(format!("{number:03}:,\\ =\"{}", "long".repeat(40)));
        fs::create_dir_all(layer.join("dir")).unwrap();
        fs::write(layer.join(format!("own{number}")), "").unwrap();
        fs::write(layer.join("same"), number.to_string()).unwrap();
        if number == 0 {
            fs::write(layer.join("gone"), "").unwrap();
            fs::write(layer.join("dir/hidden"), "").unwrap();
        } else if number == count - 1 {
            mknodat(CWD, layer.join("gone"), FileType::CharacterDevice, Mode::empty(), makedev(0, 0)).unwrap();
            let attribute = if who == Who::Root { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
            setxattr(layer.join("dir"), attribute, b"y", XattrFlags::empty()).unwrap();
            fs::write(layer.join("dir/shown"), "").unwrap();
        }
    }
    machine.give(who, root);
    directory
}

/// What is to be seen.
fn names(count: usize) -> String {
    let mut names: Vec<String> = (0..count).map(|number| format!("own{number}")).collect();
    names.extend(["dir".into(), "same".into()]);
    names.extend(if count == 1 { vec!["dir/hidden".into(), "gone".into()] } else { vec!["dir/shown".into()] });
    names.sort();
    names.join(" ")
}

fn check(machine: &Machine, who: Who, count: usize, method: &str, expected: &str) {
    let directory = prepare(machine, who, count);
    let root = directory.path();
    let words = machine.words(who, &["overlay", method, root.to_str().unwrap()]);
    // Most systems let everybody use FUSE, others get a device of their own for that.
    let node = directory.path().join("fuse");
    mknodat(CWD, &node, FileType::CharacterDevice, Mode::empty(), makedev(10, 229)).unwrap();
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    let script = "mount --make-rprivate / && mount --bind \"$0\" /dev/fuse && exec \"$@\"";
    let output = Command::new("unshare").args(["--mount", "sh", "-c", script]).arg(node).args(words).output();
    let played = Played::of(&output.unwrap());
    let seen = format!("method={expected}\nnames={}\nsame={}\n", names(count), count - 1);
    assert_eq!((played.code, played.out.as_str()), (Some(0), seen.as_str()), "{who:?} {count} {method} {}", played.err);
    assert!(root.join("upper/written").exists() && !fs::symlink_metadata(root.join("upper/same")).unwrap().is_file());
    assert!(fs::read_dir(root.join("lower")).unwrap().all(|layer| layer.unwrap().path().join("same").exists()));
}

fn layers_are_seen_as_one(machine: &Machine) {
    for who in EVERYBODY {
        for count in [1, 3, 127, 300] {
            check(machine, who, count, "any", "Fsopen");
        }
        for count in [1, 3, 127] {
            check(machine, who, count, "mount", "Mount");
        }
    }
}

fn a_page_is_not_enough(machine: &Machine) {
    let directory = prepare(machine, Who::Root, 300);
    let played = machine.play(Who::Root, &["overlay", "mount", directory.path().to_str().unwrap()]);
    assert!(
        played.code == Some(1)
            && played.err.contains(
                "the mount options of 300 layers exceed a page of \
        memory"
            ),
        "{played:?}"
    );
}

fn fuse_does_what_the_kernel_does(machine: &Machine) {
    for who in EVERYBODY {
        for count in [1, 3, 127] {
            check(machine, who, count, "fuse", "Fuse");
        }
    }
    assert_eq!(fuse_processes(machine.program().parent().unwrap()), 0);
}

fn fuse_ends_with_a_killed_process(machine: &Machine) {
    let directory = prepare(machine, Who::Root, 3);
    let mut command = machine.command(Who::Root, &["hold", "fuse", directory.path().to_str().unwrap()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!((line.as_str(), fuse_processes(directory.path())), ("mounted\n", 1));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("fuse-overlayfs is gone", || fuse_processes(directory.path()) == 0);
}

/// How many fuse-overlayfs serve something under `root`.
fn fuse_processes(root: &Path) -> usize {
    let commands = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        (line.contains("fuse-overlayfs") && line.contains(root.to_str()?)).then_some(())
    });
    commands.count()
}

fn a_refusal_can_be_told_apart(machine: &Machine) {
    let directory = prepare(machine, Who::OneId, 3);
    let root = directory.path();
    // The kernel wants `work` in the filesystem of `upper`.
    fs::remove_dir(root.join("work")).unwrap();
    std::os::unix::fs::symlink("/dev/shm", root.join("work")).unwrap();
    let played = machine.play(Who::OneId, &["overlay", "fsopen", root.to_str().unwrap()]);
    assert!(played.code == Some(1) && played.err.contains("error: cannot mount an overlay at /"), "{played:?}");
    assert!(played.err.contains("cause: fsopen: ") && played.err.contains("hint: "), "{played:?}");
    fs::remove_file(root.join("work")).unwrap();
    let played = machine.play(Who::OneId, &["overlay", "fsopen", root.to_str().unwrap()]);
    assert!(played.err.contains("error: cannot open ") && played.err.contains("/work"), "{played:?}");
}
