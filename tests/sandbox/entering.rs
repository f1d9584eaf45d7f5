//! Entering namespaces.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::{fs, iter};

use super::Case;
use super::identity::{EVERYBODY, Machine, Played, Who};

pub(crate) const CASES: &[Case] = &[
    ("entering::everybody_is_root_afterwards", everybody_is_root_afterwards),
    ("entering::mounts_are_seen_by_nobody_else", mounts_are_seen_by_nobody_else),
    ("entering::without_newuidmap_there_is_one_id_and_a_warning", without_newuidmap),
    ("entering::without_new_privileges_there_is_one_id_and_a_warning", without_new_privileges),
    ("entering::no_user_namespaces_is_named_with_its_cure", no_user_namespaces),
    ("entering::threads_are_too_late", threads_are_too_late),
    ("entering::root_of_a_namespace_keeps_its_ids", root_of_a_namespace),
];

fn everybody_is_root_afterwards(machine: &Machine) {
    for (who, ids, count) in
        [(Who::Root, "All", "4294967295"), (Who::Ranges, "Ranges", "65536"), (Who::OneId, "OneId", "1")]
    {
        let played = machine.play(who, &["enter"]);
        assert_eq!(played.code, Some(0), "{played:?}");
        assert!(played.out.contains(&format!("ids={ids} rootless={}", who != Who::Root)), "{played:?}");
        assert!(played.out.contains("warning=None") && played.out.contains("Uid:\t0\t0\t0\t0"), "{played:?}");
        let map = played.out.lines().find_map(|line| line.strip_prefix("map=")).unwrap();
        assert!(map.starts_with("0 ") && map.ends_with(&format!(" {count}")), "{played:?}");
    }
}

fn mounts_are_seen_by_nobody_else(machine: &Machine) {
    for who in EVERYBODY {
        let target = machine.directory(who);
        let mut command = machine.command(who, &["mount", target.path().to_str().unwrap()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "{who:?}");
        assert!(!target.path().join("inside").exists(), "{who:?}");
        writeln!(child.stdin.take().unwrap()).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

/// In a mount namespace in which `tool` is covered by `cover`.
fn with_cover(machine: &Machine, tool: &str, cover: &str) -> Played {
    let script = format!("mount --make-rprivate / && mount --bind {cover} /usr/bin/{tool} && exec \"$@\"");
    let words = machine.words(Who::Ranges, &["enter"]);
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script, "sh"]).args(words).output();
    Played::of(&output.unwrap())
}

fn without_newuidmap(machine: &Machine) {
    let directory = machine.directory(Who::Root);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let failing = directory.path().join("failing");
    fs::write(&failing, "#!/bin/sh\necho nothing for you >&2\nexit 1\n").unwrap();
    fs::set_permissions(&failing, fs::Permissions::from_mode(0o755)).unwrap();
    let failing = failing.to_str().unwrap();
    let cases = [
        ("newuidmap", "/dev/null", "newuidmap is not installed"),
        ("newgidmap", "/dev/null", "newgidmap is not installed"),
        ("newuidmap", failing, "newuidmap failed: nothing for you"),
        ("newgidmap", failing, "newgidmap failed: nothing for you"),
    ];
    for (tool, cover, warning) in cases {
        let played = with_cover(machine, tool, cover);
        assert!(played.out.contains("ids=OneId rootless=true") && played.out.contains(warning), "{played:?}");
        assert!(played.out.contains("Uid:\t0\t0\t0\t0"), "{played:?}");
    }
}

fn without_new_privileges(machine: &Machine) {
    let words = machine.words(Who::Ranges, &["enter"]);
    let output = Command::new("setpriv").arg("--no-new-privs").args(words).output().unwrap();
    let played = Played::of(&output);
    assert!(played.out.contains("ids=OneId") && played.out.contains("newuidmap failed"), "{played:?}");
}

/// As a user of a user namespace with `ids`, after a script in it.
fn inside(machine: &Machine, script: &str, user: &str, scenario: &[&str]) -> Played {
    let setpriv = machine.words(Who::Ranges, &[]);
    let outside = setpriv.iter().take_while(|word| *word != machine.program().to_str().unwrap());
    let unshare = ["unshare", "--user", "--mount", "--map-root-user", "--map-auto", "sh", "-c"];
    let script = format!("{script} exec setpriv --reuid={user} --regid={user} --clear-groups \"$@\"");
    let program = machine.program();
    let scenario = [&["sh", program.to_str().unwrap(), "--scenario"], scenario].concat();
    let words: Vec<&str> =
        outside.map(String::as_str).chain(unshare).chain(iter::once(script.as_str())).chain(scenario).collect();
    Played::of(&Command::new(words[0]).args(&words[1..]).output().unwrap())
}

const NONE: &str = "echo 0 >/proc/sys/user/max_user_namespaces;";

fn no_user_namespaces(machine: &Machine) {
    let played = inside(machine, NONE, "7", &["enter"]);
    assert_eq!(played.code, Some(1), "{played:?}");
    assert!(played.err.contains("cannot enter a user namespace: user.max_user_namespaces is 0"), "{played:?}");
    assert!(played.err.contains("hint: run `sysctl -w user.max_user_namespaces="), "{played:?}");
    for (user, isolation) in [("7", "auto"), ("7", "one"), ("0", "subuid"), ("0", "one")] {
        let played = inside(machine, NONE, user, &["isolate", isolation]);
        let error = "error: cannot enter a user namespace: user.max_user_namespaces is 0\n";
        assert!(played.err.starts_with(error) && played.err.contains("hint: run `sysctl -w user.max"), "{played:?}");
    }
    // Its root has other ways.
    for (isolation, is) in [("auto", "a user namespace with 65536 ids"), ("chroot", "chroot")] {
        let played = inside(machine, NONE, "0", &["isolate", isolation]);
        assert!(played.out.starts_with(&format!("is={is}\n")), "{played:?}");
    }
    assert!(inside(machine, "", "7", &["enter"]).out.contains("ids=OneId"));
}

fn root_of_a_namespace(machine: &Machine) {
    let played = inside(machine, "", "0", &["enter"]);
    assert!(played.out.contains("ids=Ranges rootless=true"), "{played:?}");
}

fn threads_are_too_late(machine: &Machine) {
    let played = machine.play(Who::OneId, &["threads"]);
    assert!(played.code == Some(1) && played.err.contains("cannot enter a user namespace"), "{played:?}");
    assert!(played.err.contains("Invalid argument"), "{played:?}");
}
