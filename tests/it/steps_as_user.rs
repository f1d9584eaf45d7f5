//! Steps that run something, for users without privileges.
//!
//! Debian: uidmap

use std::fs;
use std::process::Command;

use super::steps::{assert_seen, sorted, three_steps};
use super::support::{Builds, Layered, Packing, Registry, Tar, digests, run};

#[test]
fn steps_follow_each_other_for_everybody() {
    let mut all = Vec::new();
    for builds in Builds::all() {
        let below = Tar::new().dir("srv").owner(33, 33).mode(0o700).file("srv/x", "").owner(33, 34).mode(0o600);
        let base = Layered::busybox().layer(Packing::Gzip, below).write(&builds.place, "base");
        builds.recipe_on(&base, &three_steps("rm /d/e/new"));
        let said = builds.said(&[]);
        assert_seen(&said);
        // What was unpacked, not left by a step, is the same to the next.
        let layers = builds.layers();
        fs::remove_dir_all(builds.place.path("store/roots")).unwrap();
        fs::remove_dir_all(builds.place.path("store/layers")).unwrap();
        let said = sorted(&said);
        assert_eq!(sorted(&builds.said(&[])), said);
        assert_eq!(digests(&builds.layers()), digests(&layers));
        all.push((said, layers));
    }
    assert!(
        all.windows(2).all(|pair| pair[0].0 == pair[1].0 && digests(&pair[0].1) == digests(&pair[1].1)),
        "{all:#?}"
    );
}

#[test]
fn isolation_that_can_not_be_is_an_error_before_anything_is_fetched() {
    let builds = Builds::with_one_id();
    let registry = Registry::serve(&builds.place, "layout");
    builds.place.small_base(&registry.name("base"), "content");
    let mut registry = registry;
    registry.requests();
    builds.recipe_on(&registry.name("base"), "[[layer]]\nrun = 'true'\n");
    builds
        .build(&["--isolation", "subuid"])
        .fails(1, &["neither /etc/subuid nor /etc/subgid has ids", "usermod --add-subuids"]);
    builds.build(&["--isolation", "root"]).fails(1, &["the user is not root", "hint: run as root"]);
    builds.build(&["--isolation", "chroot"]).fails(1, &["the user is not root"]);
    // Nobody may make namespaces in there.
    let command = builds.command(&[]);
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && shift 0 && exec \"$@\"";
    let mut nested = Command::new("setpriv");
    nested.args(command.get_args().take_while(|word| word.to_str().is_some_and(|word| word.starts_with("--"))));
    nested.args(["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh"]);
    nested.args(command.get_args().skip_while(|word| word.to_str().is_some_and(|word| word.starts_with("--"))));
    nested.args(["--isolation", "one-uid"]).current_dir(builds.place.path(""));
    nested.env("HOME", builds.place.path("home")).env("OCIFORGE_STORE", builds.place.path("store"));
    run(&mut nested).fails(1, &["user.max_user_namespaces is 0", "hint: run `sysctl -w user.max_user_namespaces="]);
    assert_eq!(registry.requests(), [] as [&str; 0]);
}
